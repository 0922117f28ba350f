import json
import random
from types import SimpleNamespace

import pytest

from schemas import rows
from train import grpo, sft, watch

SETS = ("data/sft.reasoning.train.jsonl", "data/sft.reasoning.validation.jsonl")
LORA = {"r": 4, "alpha": 8, "dropout": 0.2, "targets": ["q_proj", "v_proj"], "bias": "none"}


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def a_watched(id="q1"):
    return watch.Watched(id=id, question="?", reference="A")


def parity(completions, **_):
    """A reward that differs within the groups of an untrained model."""
    return [float(len(completion[0]["content"]) % 2) for completion in completions]


def trained_by(stage, project, name):
    """Train and return the bytes of what training alone decides."""
    if stage == "grpo":
        grpo.main(["data/prompts.jsonl", "models/reasoning", f"models/{name}", "metrics/w.json"], standalone_mode=False)
    else:
        sft.main(["reasoning", *SETS, "models/base", f"models/{name}", "metrics/w.json"], standalone_mode=False)
    folder = project / "models" / name
    ours = ("run.json", watch.QUESTIONS, watch.REPLIES)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name not in ours}


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("sft", {}),
        ("sft", {"lora": LORA, "trainer": {"gradient_checkpointing": True}}),
        ("sft", {"lora": LORA, "quantize": "nf4"}),
        ("grpo", {"rewards": {"parity": 1.0}, "trainer": {"learning_rate": 0.01}}),
        ("grpo", {"rewards": {"parity": 1.0}, "lora": LORA, "trainer": {"learning_rate": 0.01, "beta": 0.04}}),
    ],
    ids=[
        "every weight",
        "adapter with dropout and checkpointing",
        "adapter on 4 bits",
        "reinforced",
        "reinforced adapter",
    ],
)
def test_watching_changes_no_byte_of_what_is_trained(trained, changed, monkeypatch, stage, values):
    monkeypatch.setitem(grpo.REWARDS, "parity", parity)

    def section(watched):
        settings = trained / "params.yaml"
        now = sft.load("grpo" if stage == "grpo" else "sft.reasoning", dict, settings)
        merged = {**values, "trainer": {**now["trainer"], **values.get("trainer", {})}, "watch": watched}
        return {"grpo": merged} if stage == "grpo" else {"sft": {"reasoning": merged}}

    changed(section({"questions": 4, "every": 1}))
    seen = trained_by(stage, trained, "seen")
    replies = lines(trained / "models/seen" / watch.REPLIES)
    changed(section({"questions": 0, "every": 1}))
    unseen = trained_by(stage, trained, "unseen")

    assert seen == unseen
    steps = 2 if stage == "grpo" else 8
    assert [line["step"] for line in replies] == [step for step in range(steps + 1) for _ in range(4)]
    assert (trained / "models/unseen" / watch.REPLIES).read_bytes() == b""
    if stage == "grpo":
        assert replies[0]["kl"] == 0.0
        assert max(reply["kl"] for reply in replies) > 0


def test_what_watching_draws_and_switches_is_given_back():
    import numpy as np
    import torch

    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(1, 1))
    model.train()
    model[0].eval()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    wanted = (random.random(), np.random.random(), torch.rand(1).item())
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)

    with pytest.raises(KeyError), watch.undisturbed(model):
        model.eval()
        torch.manual_seed(5)
        _ = random.random(), np.random.random(), torch.rand(3)
        raise KeyError

    assert (random.random(), np.random.random(), torch.rand(1).item()) == wanted
    assert [part.training for part in (model, model[0], model[1])] == [True, False, True]


def test_weights_are_lent_as_they_were_and_come_back_bit_for_bit():
    import torch

    weights = [torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2).bfloat16())]
    now = [weight.detach().clone() for weight in weights]
    start = [torch.zeros(3), torch.ones(2)]

    with watch.as_it_was(weights, start):
        assert all(torch.equal(weight.float(), value) for weight, value in zip(weights, start, strict=True))

    assert all(torch.equal(weight, value) for weight, value in zip(weights, now, strict=True))


@pytest.mark.parametrize(
    ("step", "kept"), [(None, []), (0, [0]), (2, [0, 2]), (9, [0, 2, 4])], ids=["from nothing", "0", "2", "9"]
)
def test_a_run_that_goes_on_takes_back_what_came_after_its_checkpoint(tmp_path, step, kept):
    whole = "".join(json.dumps({"step": n, "loss": 1.0}) + "\n" for n in (0, 2, 4))
    for name in (watch.LOG, watch.REPLIES):
        (tmp_path / name).write_text(whole + '{"step": 6, "los')  # as a kill leaves it

    watch.rewind(tmp_path, step)

    for name in (watch.LOG, watch.REPLIES):
        assert [line["step"] for line in lines(tmp_path / name)] == kept


def test_which_questions_are_watched_depends_on_ids_alone():
    held = [a_watched(f"q{n}") for n in range(20)]

    some = watch.chosen(held, 5, 7)

    assert some == watch.chosen(held[::-1], 5, 7)
    assert some == watch.chosen(held, 9, 7)[:5]
    assert some != watch.chosen(held, 5, 8)


def test_what_was_watched_is_kept_as_it_is_or_empty(tmp_path):
    place, new = tmp_path / "place", tmp_path / "new"
    new.mkdir()
    rows.write(place / watch.QUESTIONS, [a_watched()])

    watch.keep(place, new)

    assert lines(new / watch.QUESTIONS) == [{"id": "q1", "question": "?", "reference": "A"}]
    assert (new / watch.REPLIES).read_bytes() == b""


def test_a_log_line_says_the_speed_without_the_watching(tmp_path, monkeypatch):
    import torch

    now = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])

    def ask(model, step, as_it_was):
        now[0] += 100
        return [watch.Reply(step=step, id="q1", reply="A", right=True, kl=None)]

    seen = watch.callback("sft@x", tmp_path, watch.Watching(2, [a_watched()], ask), [], lambda: {"peak_gib": 3.0})
    args = SimpleNamespace(per_device_train_batch_size=4, gradient_accumulation_steps=2, world_size=1)
    state = SimpleNamespace(global_step=0, max_steps=4, is_world_process_zero=True)
    control = SimpleNamespace(should_training_stop=False)
    model = torch.nn.Linear(1, 1)
    seen.on_train_begin(args, state, control, model=model)
    for state.global_step in (1, 2, 3, 4):
        now[0] += 2
        seen.on_step_end(args, state, control, model=model)
        seen.on_log(args, state, control, logs={"loss": 1.0, "num_tokens": 100.0 * state.global_step})

    logged = lines(tmp_path / watch.LOG)
    assert [line["samples_per_second"] for line in logged] == [4.0] * 4
    assert [line.get("tokens_per_second") for line in logged] == [None, 50.0, 50.0, 50.0]
    assert {(line["of"], line["peak_gib"]) for line in logged} == {(4, 3.0)}
    assert [line["step"] for line in lines(tmp_path / watch.REPLIES)] == [0, 2, 4]
