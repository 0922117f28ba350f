import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas import rows
from schemas.faults import Fault
from schemas.record import Example
from train import sft
from train.model import load
from train.workplace import is_whole

SETS = ("data/sft.reasoning.train.jsonl", "data/sft.reasoning.validation.jsonl")
ROOT = Path(__file__).parents[2]


def test_a_run_leaves_model_config_curve_samples_and_card(trained):
    out = trained / "models/reasoning"
    figures = json.loads((trained / "metrics/sft.reasoning.json").read_text())

    assert {"config.json", "run.json", "curve.jsonl", "samples.jsonl", "README.md"} <= {p.name for p in out.iterdir()}
    assert figures["steps"] == 8
    assert (figures["rows"], figures["cut"], figures["dropped"]) == (48, 0, 0)
    assert figures["validation"]["n"] == 8
    losses = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in losses if "loss" in line]
    assert losses[-1] < losses[0]
    assert json.loads((out / "run.json").read_text())["params"]["trainer"]["max_steps"] == 8
    assert not list((trained / ".store/checkpoints/sft@reasoning").iterdir())


def test_the_same_questions_are_answered_on_the_way_to_the_trained_model(trained):
    out = trained / "models/reasoning"
    replies, samples, watched = (
        [json.loads(line) for line in (out / name).read_text("utf-8").splitlines()]
        for name in ("checkpoints.jsonl", "samples.jsonl", "watched.jsonl")
    )

    assert [reply["step"] for reply in replies] == [step for step in (0, 2, 4, 6, 8) for _ in range(4)]
    assert [reply["id"] for reply in replies] == [one["id"] for one in watched] * 5
    by_id = {sample["id"]: sample for sample in samples}
    assert {reply["id"]: reply["reply"] for reply in replies[-4:]} == {
        one["id"]: by_id[one["id"]]["response"] for one in watched
    }
    assert all(one["question"] == by_id[one["id"]]["prompt"] for one in watched)


def test_the_loss_on_a_cpu_is_trls(project):
    from trl import SFTConfig, SFTTrainer

    from train.model import Source

    network, tokenizer = load(
        Source(model=None, dtype="float32", quantize="none", lora=None), "models/base", train=True
    )
    examples = list(rows.read(SETS[1], Example))
    data, _ = sft.dataset(examples, tokenizer, 160)
    args = SFTConfig(
        output_dir=".store/x", use_cpu=True, bf16=False, dataset_kwargs={"skip_prepare_dataset": True}, report_to="none"
    )

    def loss(kind, rows):
        trainer = kind(model=network, args=args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
        return trainer.evaluate()["eval_loss"]

    ours = loss(sft._scoring_labels_only(SFTTrainer), data)
    assert ours == pytest.approx(loss(SFTTrainer, data), rel=1e-5)


def test_rows_that_do_not_fit_are_cut_or_dropped_and_counted(project):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("models/base")
    examples = list(rows.read(SETS[1], Example))
    whole, _ = sft.dataset(examples, tokenizer, None)
    prompt = max(row["labels"].count(-100) for row in whole)

    cut, figures = sft.dataset(examples, tokenizer, prompt + 3)
    shortest = min(row["labels"].count(-100) for row in whole)
    _, some = sft.dataset(examples, tokenizer, shortest + 1)

    assert figures["cut"] == len(examples)
    assert max(len(row["input_ids"]) for row in cut) == prompt + 3
    assert 0 < some["dropped"] < len(examples)


def test_a_killed_run_goes_on_and_leaves_the_same_bytes(trained, tmp_path):
    command = [sys.executable, "-m", "train.sft", "reasoning", *SETS, "models/base", "models/killed", "metrics/k.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 90
    while not any(map(is_whole, tmp_path.glob("**/checkpoint-4"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()

    subprocess.run(command, env=environment, check=True)

    assert json.loads((trained / "metrics/k.json").read_text())["resumed_at"] >= 4
    for file in sorted((trained / "models/reasoning").iterdir()):
        assert (trained / "models/killed" / file.name).read_bytes() == file.read_bytes(), file.name


def test_an_adapter_run_leaves_an_adapter_and_the_same_one_again(project, changed):
    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"], "bias": "none"}
    changed({"sft": {"reasoning": {"lora": lora}}})

    sft.main(["reasoning", *SETS, "models/base", "models/adapter", "metrics/a.json"], standalone_mode=False)

    assert (project / "models/adapter/adapter_model.safetensors").exists()
    assert "library_name: peft" in (project / "models/adapter/README.md").read_text()
    sft.main(["reasoning", *SETS, "models/base", "models/again", "metrics/a.json"], standalone_mode=False)
    for file in sorted((project / "models/adapter").iterdir()):
        assert (project / "models/again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_an_adapter_on_quantized_weights_is_trained_in_full_precision(project, changed):
    from safetensors.torch import load_file

    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"], "bias": "none"}
    changed({"sft": {"reasoning": {"lora": lora, "quantize": "nf4", "questions": 1}}})

    sft.main(["reasoning", *SETS, "models/base", "models/quantized", "metrics/q.json"], standalone_mode=False)

    weights = load_file(project / "models/quantized/adapter_model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float32"}


def test_an_unknown_variant_is_named(project):
    with pytest.raises(Fault, match=r"sft\.reasonin: .*did you mean 'reasoning'"):
        sft.main(["reasonin", *SETS, "models/base", "models/x", "metrics/x.json"], standalone_mode=False)


ON_THE_CPU = {"bf16": False, "use_cpu": True, "max_steps": 2}
QV = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_porj"], "bias": "none"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trainer": {**ON_THE_CPU, "lerning_rate": 1e-3}}, "lerning_rate: .*did you mean 'learning_rate'"),
        ({"trainer": {**ON_THE_CPU, "max_length": 4}}, "max_length: 4 tokens hold no reply to any of the prompts"),
        ({"trainer": {**ON_THE_CPU, "warmup_steps": 9}}, "warmup_steps: 9, but there are 2 steps in all"),
        ({"trainer": {**ON_THE_CPU, "lr_scheduler_kwargs": {"decay": 1}}}, "lr_scheduler_kwargs: .*'decay'"),
        ({"trainer": {**ON_THE_CPU, "load_best_model_at_end": True}}, r"sft\.reasoning\.trainer: .*load_best_model"),
        ({"trainer": {**ON_THE_CPU, "save_stratgy": "no", "optm": "x"}}, "(?s)save_stratgy: .*\n.*optm: "),
        ({"lora": QV}, r"lora\.targets: models/base has no layer 'v_porj'; did you mean 'v_proj'"),
        ({"quantize": "nf4"}, r"sft\.reasoning\.lora: quantized weights cannot be trained themselves"),
        ({"model": "models/bse"}, "models/bse: no such folder; did you mean 'models/base'"),
        ({"accelerate": "profiles/none.yaml"}, "accelerate: profiles/none.yaml: no such file"),
    ],
)
def test_a_setting_that_cannot_work_is_named_before_a_model_is_loaded(project, changed, monkeypatch, values, words):
    changed({"sft": {"reasoning": values}})
    monkeypatch.setattr(sft.models, "load", lambda *args, **kwargs: pytest.fail("a model was loaded"))

    with pytest.raises(Fault, match=words):
        sft.main(["reasoning", *SETS, "models/base", "models/x", "metrics/x.json"], standalone_mode=False)


CHAT = '{"id": "a", "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "A"}]}\n'


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [
        ("", CHAT, r"train\.jsonl: no rows to train on"),
        (CHAT, "", r"validation\.jsonl: no rows to validate on"),
        ('{"id": "a"}\n', CHAT, r"train\.jsonl:1: .*`messages`"),
        ('{"question": "?", "answer": "A"}\n', CHAT, r"train\.jsonl:1: .*`id`|train\.jsonl:1: .*`question`"),
        (CHAT, CHAT.replace("assistant", "user"), r"validation\.jsonl: chat 'a' does not end with the assistant's"),
        (None, CHAT, r"train\.jsonl: No such file"),
    ],
)
def test_data_that_cannot_work_are_named(project, tmp_path, train, validation, words):
    files = [tmp_path / "train.jsonl", tmp_path / "validation.jsonl"]
    for file, text in zip(files, (train, validation), strict=True):
        if text is not None:
            file.write_text(text, encoding="utf-8")

    with pytest.raises(Fault, match=words):
        sft.main(["reasoning", *map(str, files), "models/base", "models/x", "metrics/x.json"], standalone_mode=False)
