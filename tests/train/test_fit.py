import json
from types import SimpleNamespace

import pytest

from schemas import rows
from schemas.faults import Fault
from schemas.params import load
from schemas.record import Example, Prompt
from train import grpo, sft, watch
from train import model as models
from train.fit import checkpoints_to_come, config, fit, halved, mean_loss

SETS = ("data/sft.reasoning.train.jsonl", "data/sft.reasoning.validation.jsonl")


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"max_seq_length": 5}, "max_seq_length: SFTConfig has no such argument; did you mean 'max_length'"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"output_dir": "x"}, "output_dir: the stage sets it itself"),
        ({"eval_strategy": "sometimes"}, "sft.plain.trainer: .*sometimes"),
        ({"report_to": "wand", "use_cpu": True}, r"sft\.plain\.trainer\.report_to: wand is not supported"),
        ({"report_to": "comet_ml", "use_cpu": True}, r"sft\.plain\.trainer\.report_to: .*requires"),
    ],
)
def test_a_setting_trl_does_not_take_is_named(trainer, words):
    from trl import SFTConfig

    with pytest.raises(Fault, match=words):
        config(SFTConfig, "sft.plain", trainer, output_dir="out")


def test_a_process_trains_on_one_gpu_however_many_it_sees():
    from trl import SFTConfig

    class Several(SFTConfig):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 2

    args = config(Several, "sft.plain", {"per_device_train_batch_size": 8, "use_cpu": True}, output_dir="out")
    assert (args.n_gpu, args.train_batch_size) == (1, 8)


class Run:
    """A real training of the tiny model: which rows each step saw, and what goes wrong at which of its steps."""

    def __init__(self, place, settings=None):
        params = load("sft.reasoning", sft.SftParams)
        self.network, self.tokenizer = models.load(params, "models/base", train=True, seed=7)
        self.settings = {**params.trainer, "max_steps": 10, **(settings or {})}
        self.place = place
        place.mkdir(exist_ok=True)
        self.seen: list[list[tuple[int, ...]]] = []
        self.at = {}
        self.network.get_input_embeddings().register_forward_pre_hook(self.look)

    def look(self, part, given):
        """Note the rows that come in; then let what was set for this batch happen."""
        if self.network.training:
            self.seen.append([tuple(row[row != self.tokenizer.pad_token_id].tolist()) for row in given[0]])
            self.at.pop(len(self.seen), lambda: None)()

    def __call__(self, watching=None, **kw):
        from trl import SFTConfig, SFTTrainer

        data, _ = sft.dataset(list(rows.read(SETS[0], Example)), self.tokenizer, 160)

        def make(settings):
            ours = {"output_dir": str(self.place), "dataset_kwargs": {"skip_prepare_dataset": True}, "seed": 7}
            args = config(SFTConfig, "sft.reasoning", settings, data_seed=7, **ours)
            self.trainer = SFTTrainer(
                model=self.network, args=args, train_dataset=data, eval_dataset=data, processing_class=self.tokenizer
            )
            return self.trainer

        trainer, figures = fit(make, self.settings, "sft@x", self.place, watching, **kw)
        return [line for line in trainer.state.log_history if "loss" in line], figures


def out_of_memory():
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.fixture(scope="module")
def unhindered(project, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("unhindered") / "place")
    curve, _ = run()
    return run, curve


@pytest.mark.parametrize(("step", "resumed"), [(7, 4), (3, 0)], ids=["after a checkpoint", "before any"])
def test_out_of_memory_the_batch_is_halved_and_the_same_rows_follow(
    project, tmp_path, capsys, unhindered, step, resumed
):
    whole, curve = unhindered
    run = Run(tmp_path / "place")
    run.at[step] = out_of_memory

    found, figures = run()

    assert figures["batch"] == [4, 2]
    assert figures["resumed_at"] == resumed
    assert "out of GPU memory with 8 rows a step; 4 rows, 2 accumulated" in capsys.readouterr().out
    halves = run.seen[step:]
    assert [a + b for a, b in zip(halves[::2], halves[1::2], strict=True)] == whole.seen[resumed:]
    for name in ("loss", "learning_rate", "epoch", "num_tokens"):
        assert [line[name] for line in found] == pytest.approx([line[name] for line in curve], rel=1e-4), name


def test_no_row_of_an_epoch_is_lost_or_seen_twice_for_it(project, tmp_path):
    run = Run(tmp_path / "place", {"max_steps": 6})
    run.at[6] = out_of_memory

    run()

    steps = [*run.seen[:4], *run.seen[6:]]  # four that the checkpoint holds, those that are done again in halves
    every = [row for batch in steps for row in batch]
    assert len(every) == 48
    assert len(set(every)) == len(set(map(tuple, (r["input_ids"] for r in run.trainer.train_dataset))))


def test_one_row_that_is_too_much_ends_the_run(project, tmp_path):
    run = Run(tmp_path / "place", {"per_device_train_batch_size": 3})
    run.at[1] = out_of_memory

    with pytest.raises(Fault, match="out of GPU memory with 3 rows a step; quantize"):
        run()


@pytest.mark.parametrize("given", [{}, {"steps_per_generation": 4}, {"generation_batch_size": 32}])
def test_out_of_memory_grpos_generations_and_groups_stay_as_they_are(given):
    from trl import GRPOConfig

    settings = {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_generations": 4,
        "use_cpu": True,
        "bf16": False,
        **given,
    }
    before = config(GRPOConfig, "grpo", settings, output_dir="out")

    after = config(GRPOConfig, "grpo", halved(before, settings, "grpo"), output_dir="out")

    assert after.per_device_train_batch_size == 4
    assert after.generation_batch_size == before.generation_batch_size
    per_step = [args.steps_per_generation / args.gradient_accumulation_steps for args in (before, after)]
    assert per_step[0] == per_step[1]


def test_out_of_memory_grpo_goes_on_with_the_same_replies(trained, tmp_path, changed):
    import torch

    settings = {"max_steps": 4, "gradient_accumulation_steps": 2, "temperature": 0.5, "learning_rate": 0.005}
    rewards = {"rewards": {"repetition": 1.0}, "trainer": load("grpo", grpo.GrpoParams).trainer | settings}
    changed({"grpo": rewards})
    params = load("grpo", grpo.GrpoParams)
    prompts = list(rows.read("data/prompts.jsonl", Prompt))

    def curve(place, at):
        steps = []
        network, tokenizer = models.load(params, "models/reasoning", train=True, seed=7)

        def look(part, given):
            if torch.is_grad_enabled():
                steps.append(given[0].shape[0])
                if len(steps) == at:
                    out_of_memory()

        network.get_input_embeddings().register_forward_pre_hook(look)
        trainer, figures = grpo.grpo(params, network, tokenizer, prompts, tmp_path / place)
        return trainer.state.log_history[:-1], figures, steps

    whole, _, _ = curve("whole", 0)
    found, figures, steps = curve("halved", 6)

    assert (figures["batch"], figures["resumed_at"]) == ([4, 4], 2)
    assert steps == [8] * 6 + [4] * 8
    assert len(found) == len(whole) == 4
    for name in ("reward", "num_tokens", "completions/mean_length", "grad_norm"):
        assert [line[name] for line in found] == pytest.approx([line[name] for line in whole], rel=1e-3), name
    assert whole[-1]["reward_std"] > 0


def test_of_several_processes_one_alone_cannot_halve_its_batch():
    args = SimpleNamespace(per_device_train_batch_size=8, gradient_accumulation_steps=2, world_size=4)

    with pytest.raises(Fault, match="set per_device_train_batch_size: 4 and gradient_accumulation_steps: 4"):
        halved(args, {}, "sft@x")


def test_an_absurd_learning_rate_stops_the_run_with_the_last_good_checkpoint_kept(project, tmp_path):
    run = Run(tmp_path / "place", {"save_steps": 1, "logging_steps": 5, "learning_rate": 1e38, "max_grad_norm": 0})

    with pytest.raises(Fault, match=r"sft@x: step \d+: .* is not a finite number; lower learning_rate") as raised:
        run()

    check_checkpoints(run.place, raised.value.message)


@pytest.mark.parametrize(("step", "last"), [(7, 6), (1, None)])
def test_weights_that_are_no_numbers_are_in_no_checkpoint(project, tmp_path, step, last):
    run = Run(tmp_path / "place", {"save_steps": 2, "logging_steps": 10})
    run.at[step] = lambda: run.network.get_output_embeddings().weight.data[0].fill_(float("nan"))

    with pytest.raises(Fault, match="is not a finite number") as raised:
        run()

    assert ("the last good weights" in raised.value.message) == (last is not None)
    kept = check_checkpoints(run.place, raised.value.message)
    assert (kept[-1] if kept else None) == last
    logged = [json.loads(line) for line in (run.place / watch.LOG).read_text().splitlines()]
    assert logged[-1]["loss"] != logged[-1]["loss"]  # hidden by nothing


def check_checkpoints(place, message):
    """All of them hold numbers, and the last one is the one that the message names."""
    from safetensors.torch import load_file

    found = sorted(int(path.name.partition("-")[2]) for path in place.glob("checkpoint-*"))
    for step in found:
        weights = load_file(place / f"checkpoint-{step}/model.safetensors")
        assert all(weight.isfinite().all() for weight in weights.values()), step
    if found:
        assert f"checkpoint-{found[-1]};" in message
    return found


def test_a_run_that_saves_nothing_does_not_end_in_weights_that_are_no_numbers(project, tmp_path):
    run = Run(tmp_path / "place", {"save_strategy": "no", "logging_strategy": "no", "max_steps": 3})
    run.at[3] = lambda: run.network.get_output_embeddings().weight.data[0].fill_(float("nan"))

    with pytest.raises(Fault, match="step 3: a weight is not a finite number"):
        run()


def test_memory_is_measured_where_it_matters(project, tmp_path, monkeypatch):
    monkeypatch.setattr("train.fit.memory", lambda: {"peak_gib": 3.0})
    run = Run(tmp_path / "place", {"eval_strategy": "steps", "eval_steps": 4, "max_steps": 4})
    shown = watch.Watched(id="q", question="?", reference="A")

    def ask(network, step, as_it_was):
        return [watch.Reply(step=step, id="q", reply="A", right=True, kl=None)]

    _, figures = run(watch.Watching(4, [shown], ask))

    points = {"before_generation", "after_generation", "loaded", "first_step", "evaluated", "saved"}
    assert figures["memory_at"] == {point: {"peak_gib": 3.0} for point in points}


class Notes:
    """What a stage remembers: numbers, of which it knows one before it begins."""

    def __init__(self):
        self.noted = [0.5]

    def kept(self):
        return {"noted": list(self.noted)}

    def look_back(self, kept):
        self.noted = kept["noted"] if kept else [0.5]


def test_what_a_stage_remembers_comes_back_with_the_checkpoint(project, tmp_path):
    notes = Notes()
    run = Run(tmp_path / "place")
    run.at[4] = lambda: notes.noted.append(4.0)
    run.at[6] = lambda: notes.noted.append(6.0)
    run.at[7] = out_of_memory
    at_eight = []
    run.at[8] = lambda: at_eight.extend(notes.noted)

    run(remembered=notes)

    assert at_eight == [0.5, 4.0]


@pytest.mark.parametrize("best", [{}, {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 5}])
def test_a_run_that_was_trained_to_its_end_is_not_trained_a_step_more(project, tmp_path, unhindered, best):
    import torch

    first = Run(tmp_path / "place", {**best, "save_steps": 5})
    curve, figures = first()

    again = Run(tmp_path / "place", {**best, "save_steps": 5})
    found, others = again()

    assert again.seen == []
    assert found == curve
    assert (others["steps"], others["resumed_at"], others["train_loss"]) == (10, 10, figures["train_loss"])
    weights = zip(first.network.parameters(), again.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize(
    ("history", "mean"),
    [
        ([], None),
        ([{"step": 2, "loss": 3.0}, {"step": 2, "eval_loss": 9.0}, {"step": 3, "loss": 6.0}], 4.0),
        ([{"step": 1, "loss": float("nan")}], pytest.approx(float("nan"), nan_ok=True)),
    ],
)
def test_the_mean_loss_is_that_of_all_steps_resumed_or_not(history, mean):
    assert mean_loss(history) == mean


def test_curves_go_to_tensorboard_and_a_run_that_goes_on_takes_back_what_followed_its_checkpoint(
    project, tmp_path, monkeypatch
):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    run = Run(tmp_path / "place", {"logging_steps": 1})
    run.at[7] = out_of_memory

    curve, _ = run()

    (folder,) = (tmp_path / "logs/tensorboard/sft@x").iterdir()
    board = EventAccumulator(str(folder)).Reload()
    points = board.Scalars("train/loss")
    assert [point.step for point in points] == list(range(1, 11))
    assert [point.value for point in points] == pytest.approx([line["loss"] for line in curve])


def test_curves_go_where_params_say(project, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    Run(tmp_path / "place", {"report_to": "none", "max_steps": 1})()

    assert not (tmp_path / "logs").exists()


def test_without_tensorboard_the_log_remains(project, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("transformers.integrations.is_tensorboard_available", lambda: False)

    Run(tmp_path / "place", {"max_steps": 2})()

    assert "sft@x: tensorboard is not installed" in capsys.readouterr().out
    assert (tmp_path / "place" / watch.LOG).exists()


@pytest.mark.parametrize(
    ("strategy", "limit", "step", "there", "more"),
    [
        ("steps", 1, 1, 0, 2),
        ("steps", 1, 5, 1, 1),
        ("steps", 3, 1, 0, 4),
        ("steps", 3, 9, 3, 1),
        ("steps", None, 1, 0, 10),
        ("steps", None, 95, 9, 1),
        ("epoch", None, 1, 0, 3),
        ("epoch", 1, 1, 0, 2),
        ("no", 1, 1, 0, 0),
    ],
)
def test_how_many_checkpoints_are_to_lie_on_the_disk(strategy, limit, step, there, more):
    args = SimpleNamespace(save_strategy=strategy, save_total_limit=limit)
    state = SimpleNamespace(max_steps=100, save_steps=10, global_step=step, num_train_epochs=3, epoch=0.1)

    assert checkpoints_to_come(args, state, there) == more


def test_checkpoints_for_which_there_is_no_room_are_said_at_the_first_step(project, tmp_path, monkeypatch):
    monkeypatch.setattr("train.fit.shutil.disk_usage", lambda path: SimpleNamespace(free=3 * 2**20))
    run = Run(tmp_path / "place", {"save_steps": 1})

    with pytest.raises(Fault, match=r"3.0 MiB are free on this disk, 10 more checkpoints of"):
        run()

    assert len(run.seen) == 1
