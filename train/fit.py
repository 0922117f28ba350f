"""Runs that survive: TRL's trainer built from params, trained to its end whatever stops it on the way.

Every stage that trains goes through here; the stages themselves stay thin over TRL.
"""

import dataclasses
import difflib
import functools
import gc
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import click

from schemas import rows
from schemas.faults import Fault
from train import launch, watch
from train import model as models
from train.compiled import compile_layers
from train.generate import Held
from train.memory import memory, release
from train.workplace import last_checkpoint, root, size

CROWDED = 0.9
"""Share of the GPU above which what torch holds unused is given back, after an evaluation or watched replies."""


class Remembered(Protocol):
    """What a training remembers beside TRL's state."""

    def kept(self) -> dict[str, Any]:
        """Return it as JSON has it, by name."""

    def look_back(self, kept: Mapping[str, Any] | None) -> None:
        """Remember what `kept` returned; None: what is known before the first step."""


class Training(models.Source, frozen=True):
    """What every training has."""

    compile: bool
    """Each layer by torch.compile."""
    engine: Held
    """What replies, on the way, before and after."""
    accelerate: str | None
    """A file for `accelerate launch`; null: this process alone."""
    watch: watch.Watch
    """Held-out questions answered on the way."""
    trainer: dict[str, Any]
    """Handed to TRL's config as it stands."""
    seed: int


def loaded(params: Training, path: str) -> tuple[Any, Any]:
    """Return a model to be trained, its layers compiled where params say so, and its tokenizer."""
    cpu = bool(params.trainer.get("use_cpu", False))
    network, tokenizer = models.load(params, path, train=True, seed=params.seed, cpu=cpu)
    if params.compile:
        compile_layers(network)
    return network, tokenizer


def config(kind: Any, section: str, trainer: dict[str, Any], **ours: Any) -> Any:
    """Return TRL's config for a `trainer:` mapping as it stands; Fault for an argument TRL does not know or refuses."""
    from transformers.integrations import get_reporting_integration_callbacks

    known = {field.name for field in dataclasses.fields(kind) if field.init}
    for name in trainer:
        where = f"params.yaml: {section}.trainer.{name}"
        if name in ours:
            raise Fault(f"{where}: the stage sets it itself; remove it")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else "see its documentation"
            raise Fault(f"{where}: {kind.__name__} has no such argument; {hint}")
    try:
        made = kind(**trainer, **ours)
    except (ValueError, TypeError) as error:
        raise Fault(f"params.yaml: {section}.trainer: {' '.join(str(error).split())}") from None
    # Several GPUs are several processes (`accelerate`); one alone would copy the model to each of them at every step.
    made._n_gpu = min(made.n_gpu, 1)
    try:  # they look for their libraries when they are made
        for callback in get_reporting_integration_callbacks(made.report_to):
            callback()
    except (ValueError, RuntimeError) as error:
        raise Fault(f"params.yaml: {section}.trainer.report_to: {' '.join(str(error).split())}") from None
    return made


def fit(
    make: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    stage: str,
    place: Path,
    watching: watch.Watching | None,
    remembered: Remembered | None = None,
    evaluate: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Train from the last whole checkpoint, if there is one; return the trainer and how it went.

    `make` builds TRL's trainer from the `trainer:` mapping. Out of GPU memory, the batch is halved and accumulation
    doubled, and training goes on from the last checkpoint, or from the start if there is none yet: the optimizer sees
    the same batches, GRPO's groups stay whole. A loss or weight that is no number is a Fault, and in no checkpoint.
    What is `remembered` comes and goes with the checkpoints. `evaluate` evaluates at the end.

    Of several processes only the first one comes back; with sharded weights nothing is watched.
    """
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    before = time.monotonic()
    if watching and launch.sharded():
        click.echo(f"{stage}: weights spread over GPUs answer nothing on the way")
        watching = None
    if watching and launch.first():
        rows.write(place / watch.QUESTIONS, watching.questions)
    settings = {**_defaults(stage, settings), **settings}
    trainer = make(settings)
    if trainer.args.world_size == 1 and trainer.args.n_gpu and (gpus := torch.cuda.device_count()) > 1:
        click.echo(f"{stage}: one of {gpus} GPUs trains; with accelerate: profiles/accelerate/ddp.yaml all do")
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    start = [weight.detach().to("cpu", copy=True) for weight in weights]
    measured: dict[str, Any] = {}
    watching = watching and _measuring(watching, measured)
    while True:
        found = last_checkpoint(place)
        resumed = int(found.name.partition("-")[2]) if found else 0
        if found:
            click.echo(f"{stage}: goes on from {found.name}")
        watch.rewind(place, resumed if found else None)
        callbacks = [
            *([_remembering(remembered)] if remembered else []),
            watch.callback(stage, place, watching, start, memory),
            _guard(stage, place, measured),
        ]
        try:
            _train(trainer, callbacks, found, root() / "logs" / "tensorboard" / stage / place.name)
            break
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
                if not _finite(weights):  # a reply cannot be drawn from what are no probabilities
                    raise _diverged(stage, place, trainer.state.global_step, "a weight") from None
                raise
            settings = halved(trainer.args, settings, stage)
        # Not in the handler: what the failed step held lives as long as the exception does.
        del trainer, callbacks
        for weight in weights:
            weight.grad = None
        gc.collect()
        torch.cuda.empty_cache()
        with torch.no_grad():
            for weight, value in zip(weights, start, strict=True):
                weight.copy_(value)
        trainer = make(settings)
    if not _finite(weights):
        raise _diverged(stage, place, trainer.state.global_step, "a weight")
    seconds = time.monotonic() - before
    steps = trainer.state.global_step
    evaluated = trainer.evaluate() if evaluate else {}
    _gather(trainer)
    if not launch.first():
        raise SystemExit
    return trainer, {
        **({"evaluated": evaluated} if evaluate else {}),
        "steps": steps,
        "resumed_at": resumed,
        "batch": [trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps],
        "processes": trainer.args.world_size,
        "seconds": round(seconds, 1),
        "steps_per_second": round((steps - resumed) / seconds, 3),
        "train_loss": mean_loss(trainer.state.log_history),
        "memory": memory(),
        "memory_at": measured,
    }


def _gather(trainer: Any) -> None:
    """Bring spread weights together, for the model's `save_pretrained`; every process has to take part."""
    if launch.sharded():
        whole = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        trainer.model.save_pretrained = functools.partial(trainer.model.save_pretrained, state_dict=whole)


def halved(args: Any, settings: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return a `trainer:` mapping with half the batch and twice the accumulation; Fault if one row is too much.

    Of several processes one alone cannot begin anew: there it is a Fault too.
    """
    batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    if batch % 2:
        raise Fault(f"{stage}: out of GPU memory with {batch} rows a step; quantize, shorten max_length or take lora")
    if args.world_size > 1:
        raise Fault(
            f"{stage}: out of GPU memory with {batch} rows a step; set per_device_train_batch_size: {batch // 2} and "
            f"gradient_accumulation_steps: {accumulation * 2} in params.yaml"
        )
    click.echo(
        f"{stage}: out of GPU memory with {batch} rows a step; {batch // 2} rows, {accumulation * 2} accumulated"
    )
    made = {
        **settings,
        "per_device_train_batch_size": batch // 2,
        "gradient_accumulation_steps": accumulation * 2,
    }
    if "steps_per_generation" in settings:
        made["steps_per_generation"] = settings["steps_per_generation"] * 2
    return made


def mean_loss(history: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the mean loss of all steps, of which each line of the log has that since the line before; None: no log."""
    total, steps = 0.0, 0
    for line in history:
        if "loss" in line:
            total += line["loss"] * (line["step"] - steps)
            steps = line["step"]
    return round(total / steps, 4) if steps else None


def checkpoints_to_come(args: Any, state: Any, there: int) -> int:
    """Return how many more checkpoints will lie on the disk at once than the `there` that lie on it now."""
    limit: int | None = args.save_total_limit
    left = 0
    if args.save_strategy == "steps":
        left = math.ceil(state.max_steps / state.save_steps) - (state.global_step - 1) // state.save_steps
    elif args.save_strategy == "epoch":
        left = math.ceil(state.num_train_epochs) - math.floor(state.epoch or 0)
    # One is removed only when the next one is whole.
    return min(left, max(1, limit + 1 - there)) if limit else left


def _defaults(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds unless params say otherwise: curves for TensorBoard, no loss hidden that is no number."""
    from transformers.integrations import is_tensorboard_available

    if "report_to" not in settings and not is_tensorboard_available():
        click.echo(f"{stage}: tensorboard is not installed; the curve is in log.jsonl alone")
    return {
        "report_to": "tensorboard" if is_tensorboard_available() else "none",
        "logging_nan_inf_filter": False,
    }


class _Done(Exception):
    """The checkpoint is that of the last step; transformers would make one step more."""


def _train(trainer: Any, callbacks: Iterable[Any], found: Path | None, board: Path) -> None:
    from transformers import PrinterCallback, ProgressCallback
    from transformers.integrations import TensorBoardCallback

    for unwanted in () if sys.stderr.isatty() else (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    if trainer.pop_callback(TensorBoardCallback) and trainer.is_world_process_zero():
        trainer.add_callback(TensorBoardCallback(_events(board, found)))
    for callback in callbacks:
        trainer.add_callback(callback)
    if hasattr(trainer.model, "peft_config"):
        # TRL holds an adapter on quantized weights in bfloat16, where the steps of a small learning rate round to
        # nothing; one read from a checkpoint is float32, and a run that goes on would not be the same training.
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    if found:
        # TRL counts the tokens of a run from zero, resumed or not.
        logged = json.loads((found / "trainer_state.json").read_bytes())["log_history"]
        trainer._total_train_tokens = int(max((line.get("num_tokens", 0) for line in logged), default=0))
    try:
        trainer.train(resume_from_checkpoint=str(found) if found else None)
    except _Done:
        trainer.is_in_train = False
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
            trainer._load_best_model()
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)


def _events(board: Path, found: Path | None) -> Any:
    """Return a writer of events for TensorBoard, which shows none of those that followed the checkpoint."""
    from torch.utils.tensorboard import SummaryWriter

    if not found:
        shutil.rmtree(board, ignore_errors=True)
    after = int(found.name.partition("-")[2]) + 1 if found else None
    return SummaryWriter(str(board), purge_step=after)


def _guard(stage: str, place: Path, measured: dict[str, Any]) -> Any:
    """Return a callback that stops a training that diverges or has no room for its checkpoints, and measures memory."""
    from transformers import TrainerCallback

    class Guard(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            if state.global_step >= state.max_steps:
                raise _Done
            self.first = state.global_step + 1
            release(CROWDED)
            _measure(measured, "loaded")

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any, optimizer: Any, **kw: Any) -> None:
            self.seen_before_it_is_saved(control)
            if state.global_step == self.first:
                _measure(measured, "first_step")
                if args.world_size == 1:
                    _enough_room(stage, place, args, state, model, optimizer)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            self.seen_before_it_is_saved(control)

        def seen_before_it_is_saved(self, control: Any) -> None:
            # What is averaged between two lines of the log is in no checkpoint: a run that goes on begins a new line.
            control.should_log = control.should_log or control.should_save

        def on_log(self, args: Any, state: Any, control: Any, model: Any, logs: dict[str, Any], **kw: Any) -> None:
            if not math.isfinite(logs.get("loss", 0.0)):
                raise _diverged(stage, place, state.global_step, "the loss")
            if not _finite(model.parameters()):
                raise _diverged(stage, place, state.global_step, "a weight")

        def on_evaluate(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            _measure(measured, "evaluated")
            release(CROWDED)

        def on_save(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            _measure(measured, "saved")

    return Guard()


def _measuring(watching: watch.Watching, measured: dict[str, Any]) -> watch.Watching:
    def ask(model: Any, step: int, as_it_was: watch.AsItWas) -> Sequence[watch.Reply]:
        _measure(measured, "before_generation")
        replies = watching.ask(model, step, as_it_was)
        _measure(measured, "after_generation")
        release(CROWDED)
        return replies

    return watching._replace(ask=ask)


def _measure(measured: dict[str, Any], point: str) -> None:
    if found := memory():
        measured[point] = found


def _remembering(remembered: Remembered) -> Any:
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState

    class Remembering(TrainerCallback, ExportableState):  # type: ignore[misc]
        def state(self) -> dict[str, Any]:
            return {"args": {}, "attributes": remembered.kept()}

        def on_train_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            remembered.look_back(state.stateful_callbacks["Remembering"]["attributes"] if state.global_step else None)

    return Remembering()


def _finite(weights: Iterable[Any]) -> bool:
    """Whether all weights to be trained are numbers, as far as they lie in this process."""
    local = (w.to_local() if hasattr(w, "to_local") else w for w in weights if w.requires_grad)
    return all(bool(weight.isfinite().all()) for weight in local)


def _diverged(stage: str, place: Path, step: int, what: str) -> Fault:
    found = last_checkpoint(place)
    kept = f", or go on from the last good weights, model: {found}" if found else ""
    return Fault(
        f"{stage}: step {step}: {what} is not a finite number; lower learning_rate or max_grad_norm in params.yaml"
        f"{kept}; {place / watch.LOG} shows how it came"
    )


def _enough_room(stage: str, place: Path, args: Any, state: Any, model: Any, optimizer: Any) -> None:
    trained_alone = hasattr(model, "peft_config")
    weights = sum(w.nbytes for w in model.parameters() if w.requires_grad or not trained_alone)
    moments = (v for of in optimizer.state.values() for v in of.values() if hasattr(v, "nbytes"))
    one = weights + (0 if args.save_only_model else sum(moment.nbytes for moment in moments))
    more = checkpoints_to_come(args, state, len(list(place.glob("checkpoint-[0-9]*"))))
    free = shutil.disk_usage(place).free
    if free < more * one + weights:
        raise Fault(
            f"{stage}: {place}: {size(free)} are free on this disk, {more} more checkpoints of {size(one)} and the "
            f"model take {size(more * one + weights)}; make room, or see save_total_limit and save_only_model"
        )
