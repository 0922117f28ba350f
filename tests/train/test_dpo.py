import json
import math
import re

import pytest

from schemas import profile, rows
from schemas.faults import Fault
from schemas.params import load
from schemas.record import Pair
from train import dpo

PAIRS = "data/pairs/train.jsonl"
NAMES = ("prompt_ids", "chosen_ids", "rejected_ids")
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"], "bias": "none"}


class Killed(Exception):
    """The end of a process, as far as a test can have one."""


def run(out, model="models/reasoning", pairs="data/pairs"):
    dpo.main([pairs, model, f"models/{out}", f"metrics/{out}.json"], standalone_mode=False)
    return json.loads(open(f"metrics/{out}.json").read())


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def stopping(at):
    """A training step that ends the run once, after so many steps."""
    from transformers import Trainer

    real, done = Trainer.training_step, []

    def step(self, *args, **kwargs):
        if self.state.global_step == at and not done:
            done.append(at)
            raise Killed
        return real(self, *args, **kwargs)

    return step


@pytest.fixture(scope="module")
def tuned(trained):
    return trained, run("dpo")


def test_what_was_held_out_is_shown_before_training_and_after(tuned):
    project, figures = tuned
    out = project / "models/dpo"
    held = figures["held_out"]

    assert {"config.json", "run.json", "curve.jsonl", "samples.jsonl", "README.md"} <= {p.name for p in out.iterdir()}
    assert (figures["steps"], figures["pairs"], figures["pairs_too_long"]) == (4, 44, 0)
    assert held["before"]["n"] == held["after"]["n"] == 4
    assert held["gain"]["mean"] == pytest.approx(held["after"]["accuracy"] - held["before"]["accuracy"])
    assert figures["held_out_pairs"]["n"] == 8  # the questions with all their pairs, of types not trained on too
    assert figures["held_out_pairs"]["before"]["loss"] == round(math.log(2), 4)  # the model is its own reference
    assert figures["held_out_pairs"]["after"]["rewards/margins"] != 0
    assert {"before", "after", "reference"} <= lines(out / "samples.jsonl")[0].keys()
    assert lines(out / "curve.jsonl")[0]["step"] == 0
    seen = lines(out / "checkpoints.jsonl")
    assert [reply["step"] for reply in seen] == [0, 0, 0, 2, 2, 2, 4, 4, 4]
    assert {reply["id"] for reply in seen} <= {sample["id"] for sample in lines(out / "samples.jsonl")}
    assert not list((project / ".store/checkpoints/dpo").iterdir())


def test_no_question_is_on_both_sides_and_ids_decide_which_is_held_out(trained):
    params = load("dpo", dpo.DpoParams)
    pairs = list(rows.read(PAIRS, Pair))

    training, held = dpo.divide(pairs, params)
    _, again = dpo.divide(pairs[::-1], params)

    assert not {dpo.question(pair) for pair in training} & {dpo.question(pair) for pair in held}
    assert {pair.id for pair in held} == {pair.id for pair in again}
    assert {pair.type for pair in training} == {"wrong_answer"}


def test_the_tokens_are_trls(trained):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from train.model import as_dicts

    tokenizer = AutoTokenizer.from_pretrained("models/reasoning", padding_side="left")
    pairs = list(rows.read(PAIRS, Pair))[:6]
    given = [{name: as_dicts(getattr(pair, name)) for name in ("prompt", "chosen", "rejected")} for pair in pairs]
    args = DPOConfig(output_dir=".store/x", use_cpu=True, bf16=False, report_to="none")
    network = AutoModelForCausalLM.from_pretrained("models/reasoning")

    theirs = DPOTrainer(
        model=network, args=args, train_dataset=Dataset.from_list(given), processing_class=tokenizer
    ).train_dataset

    assert dpo.tokens(pairs, tokenizer) == [{name: row[name] for name in NAMES} for row in theirs]


def test_a_pair_that_is_too_long_is_left_out_and_counted(trained, changed):
    settings = profile.read(trained / "params.yaml")["dpo"]["trainer"]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("models/reasoning", padding_side="left")
    sides = dpo.divide(list(rows.read(PAIRS, Pair)), load("dpo", dpo.DpoParams))
    made = dpo.tokens([pair for side in sides for pair in side], tokenizer)
    lengths = [len(row["prompt_ids"]) + len(row["chosen_ids"]) for row in made]  # no rejected reply is longer
    short = max(lengths) - 1

    changed({"dpo": {"trainer": {**settings, "max_length": short, "max_steps": 1}}})

    assert run("short")["pairs_too_long"] == sum(length > short for length in lengths) > 0


def held_to_its_start(figures):
    """Whether the margin is that over the model which training began with."""
    was, now = (figures["held_out_pairs"][when] for when in ("before", "after"))
    moved = [now[f"logps/{side}"] - was[f"logps/{side}"] for side in ("chosen", "rejected")]
    return now["rewards/margins"] == pytest.approx(0.1 * (moved[0] - moved[1]), abs=1e-4)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapter"])
def test_an_interrupted_run_goes_on_and_leaves_the_same_bytes(trained, changed, monkeypatch, lora):
    changed({"dpo": {"lora": lora}})
    name = "adapter" if lora else "whole"
    whole = run(name)
    with monkeypatch.context() as patched:
        from transformers import Trainer

        patched.setattr(Trainer, "training_step", stopping(3))
        with pytest.raises(Killed):
            run(f"{name}2")

    again = run(f"{name}2")

    assert again["resumed_at"] == 2
    assert held_to_its_start(whole)
    assert again["held_out_pairs"] == whole["held_out_pairs"]
    files = sorted(path.name for path in (trained / f"models/{name}").iterdir())
    assert "ref" not in files
    for file in files:
        assert (trained / f"models/{name}2/{file}").read_bytes() == (trained / f"models/{name}/{file}").read_bytes(), (
            file
        )


@pytest.mark.parametrize("start", ["models/reasoning", "models/adapter"])
def test_out_of_memory_the_model_is_still_held_to_its_start(trained, changed, monkeypatch, start):
    import torch
    from transformers import Trainer

    if start == "models/adapter":
        changed({"dpo": {"lora": LORA}})
        run("adapter")
    changed({"dpo": {"lora": None}})
    real = Trainer.training_step

    def step(self, *args, **kwargs):
        if self.args.per_device_train_batch_size > 2 and self.state.global_step == 1:
            raise torch.OutOfMemoryError
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", step)

    figures = run("halved", start)

    assert figures["batch"] == [2, 2]
    assert held_to_its_start(figures)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"held_out": 48}, r"pairs/train\.jsonl: no pairs of .* to train on .* beside 48 of 48 questions held out"),
        ({"types": ["biased"]}, "no pairs of biased to train on"),
        ({"types": ["biassed"]}, r"dpo\.types"),
        ({"trainer": {"lerning_rate": 1e-3}}, "dpo.trainer.lerning_rate: .* did you mean 'learning_rate'"),
        ({"trainer": {"max_length": 4, "bf16": False, "use_cpu": True}}, "none of the pairs is of at most 4 tokens"),
        ({"trainer": {"sync_ref_model": True, "bf16": False, "use_cpu": True}}, "sync_ref_model: .* remove it"),
        ({"trainer": {"eval_on_start": True, "use_cpu": True}}, "eval_on_start: the stage sets it itself"),
        ({"model": "models/reasonin"}, "models/reasonin: no such folder; did you mean 'models/reasoning'"),
    ],
)
def test_a_setting_that_cannot_work_is_named(trained, changed, values, words):
    changed({"dpo": values})

    with pytest.raises(Fault, match=words):
        run("y")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "no rows to train on"),
        ('{"id": "a"}\n', r"pairs/train\.jsonl:1: .*`type`"),
        ("ONE" + "ONE", "id 'q0.wrong_answer' comes more than once"),
        ("MUTE", "no chosen reply of the held-out questions gives an answer A to D"),
    ],
)
def test_data_that_cannot_work_are_named(trained, tmp_path, line, words):
    every = (trained / PAIRS).read_text("utf-8")
    mute = re.sub("[ABCD]", "甲", every)
    text = line.replace("ONE", every.splitlines(keepends=True)[0]).replace("MUTE", mute)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs/train.jsonl").write_text(text, encoding="utf-8")

    with pytest.raises(Fault, match=words):
        run("y", pairs=str(tmp_path / "pairs"))
