import json

import pytest

from schemas import profile
from schemas.faults import Fault
from train import grpo, reinforce


def test_rewards_are_shown_before_and_after_training(trained):
    grpo.main(["data/prompts.jsonl", "models/reasoning", "models/grpo", "metrics/grpo.json"], standalone_mode=False)

    figures = json.loads((trained / "metrics/grpo.json").read_text())
    assert figures["steps"] == 2
    assert figures["prompts"] == 44
    assert set(figures["reward_before"]["components"]) == {"correct", "format", "reasoning", "valid", "neutrality"}
    assert figures["reward_gain"]["mean"] == pytest.approx(
        figures["reward_after"]["mean"] - figures["reward_before"]["mean"], abs=1e-3
    )
    assert "reward" in figures["last"]
    seen = [json.loads(line) for line in (trained / "models/grpo/checkpoints.jsonl").read_text("utf-8").splitlines()]
    assert [reply["step"] for reply in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {reply["id"] for reply in seen} <= held_out(trained)
    assert [reply["kl"] for reply in seen[:3]] == [0.0, 0.0, 0.0]
    assert (trained / "models/grpo/model.safetensors").exists()


def held_out(project):
    lines = (project / "models/grpo/samples.jsonl").read_text("utf-8").splitlines()
    return {json.loads(line)["id"] for line in lines}


def test_a_run_that_failed_late_goes_on_and_keeps_its_start(trained, changed, monkeypatch):
    arguments = ["data/prompts.jsonl", "models/reasoning", "models/grpo2", "metrics/grpo2.json"]
    changed({"grpo": {"z_score": True}})

    def full_disk(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(reinforce, "save", full_disk)
        with pytest.raises(OSError, match="no space"):
            grpo.main(arguments, standalone_mode=False)
    (start,) = trained.glob(".store/checkpoints/grpo/*/before.jsonl")
    before = start.read_bytes()

    grpo.main(arguments, standalone_mode=False)

    figures = json.loads((trained / "metrics/grpo2.json").read_text())
    assert figures["resumed_at"] == 2
    assert len(before.splitlines()) == 8


def test_out_of_memory_an_adapter_goes_on_and_trls_copy_of_it_is_not_kept(trained, changed, monkeypatch, capsys):
    import torch
    from transformers import Trainer

    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"], "bias": "none"}
    settings = profile.read(trained / "params.yaml")["grpo"]["trainer"]
    changed({"grpo": {"lora": lora, "trainer": {**settings, "beta": 0.04}}})
    real = Trainer.training_step

    def step(self, *args, **kwargs):
        if self.args.per_device_train_batch_size > 4:
            raise torch.OutOfMemoryError
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", step)

    grpo.main(["data/prompts.jsonl", "models/reasoning", "models/g3", "metrics/g3.json"], standalone_mode=False)

    assert json.loads((trained / "metrics/g3.json").read_text())["batch"] == [4, 2]
    assert "out of GPU memory with 8 rows" in capsys.readouterr().out
    assert (trained / "models/g3/adapter_model.safetensors").exists()
    assert not (trained / "models/g3/ref").exists()
    seen = [json.loads(line) for line in (trained / "models/g3/checkpoints.jsonl").read_text("utf-8").splitlines()]
    assert [reply["step"] for reply in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]  # those of the first try are taken back


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rewards": {"corect": 1.0}}, r"grpo\.rewards\.corect: no such reward; did you mean 'correct'"),
        ({"rewards": {}}, r"grpo\.rewards: none has a weight; there are format, "),
        ({"trainer": {"num_generation": 4}}, "did you mean 'num_generations'"),
        ({"max_prompt": 1}, r"prompts\.jsonl: 0 prompts of at most 1 tokens"),
        ({"held_out": 47}, "48 prompts of .* too few to train on with 47 of them held out"),
        ({"max_prompt": 185}, "max_prompt 185 and max_completion_length 12 are 197 tokens, the model is made for 192"),
        ({"accelerate": "none.yaml"}, "grpo.accelerate: none.yaml: no such file"),
        ({"model": "models/none/at/all"}, "models/none/at/all: no such folder; train it first"),
    ],
)
def test_a_setting_that_cannot_work_is_named(trained, changed, values, words):
    changed({"grpo": values})

    with pytest.raises(Fault, match=words):
        grpo.main(["data/prompts.jsonl", "models/reasoning", "models/y", "metrics/y.json"], standalone_mode=False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "save_steps: must be a multiple of 2"),
        (
            {"save_steps": 2, "eval_strategy": "steps", "eval_steps": 1},
            "eval_strategy: .*held_out and watch; remove it",
        ),
        ({"save_steps": 2, "num_generations": 3}, "(?i)grpo.trainer: .*generation"),
        (
            {"per_device_train_batch_size": 256, "save_steps": 2},
            "takes 128 prompts, there are 44: TRL would train on none",
        ),
    ],
)
def test_a_generation_that_cannot_work_is_named(trained, changed, values, words):
    changed({"grpo": {"trainer": {**CUT, **values}}})

    with pytest.raises(Fault, match=words):
        grpo.main(["data/prompts.jsonl", "models/reasoning", "models/y", "metrics/y.json"], standalone_mode=False)


def test_nothing_is_trained_where_all_rewards_are_equal(trained, changed):
    # This model writes no answer in its format yet.
    changed({"grpo": {"rewards": {"format": 1.0}, "held_out": 20}})

    with pytest.raises(Fault, match=r"all of 20 held-out prompts .* raise grpo\.trainer\.temperature"):
        grpo.main(["data/prompts.jsonl", "models/reasoning", "models/y", "metrics/y.json"], standalone_mode=False)


CUT = {
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 8,
    "steps_per_generation": 2,
    "save_steps": 1,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
}
