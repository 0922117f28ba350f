"""Runs that survive: TRL's trainer built from params, trained to its end whatever stops it on the way.

Every stage that trains goes through here; the stages themselves stay thin over TRL.
"""

import dataclasses
import difflib
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from schemas import rows
from schemas.faults import Fault
from train import watch
from train.memory import memory
from train.model import Source
from train.workplace import last_checkpoint


class Training(Source, frozen=True):
    """What every training has."""

    compile: bool
    """Each layer by torch.compile."""
    accelerate: str | None
    """A file for `accelerate launch`; null: this process alone."""
    watch: watch.Watch
    """Held-out questions answered on the way."""
    trainer: dict[str, Any]
    """Handed to TRL's config as it stands."""
    seed: int


def config(kind: Any, section: str, trainer: dict[str, Any], **ours: Any) -> Any:
    """Return TRL's config for a `trainer:` mapping as it stands; Fault for an argument TRL does not know or refuses."""
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
        return kind(**trainer, **ours)
    except (ValueError, TypeError) as error:
        raise Fault(f"params.yaml: {section}.trainer: {' '.join(str(error).split())}") from None


def fit(
    make: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    stage: str,
    place: Path,
    watching: watch.Watching | None,
) -> tuple[Any, dict[str, Any]]:
    """Train from the last whole checkpoint, if there is one; return the trainer and how it went.

    `make` builds TRL's trainer from the `trainer:` mapping. Out of GPU memory, the batch is halved and accumulation
    doubled, and training goes on from the last checkpoint, or from the start if there is none yet: the optimizer sees
    the same batches, GRPO's groups stay whole.
    """
    import torch

    before = time.monotonic()
    if watching:
        rows.write(place / watch.QUESTIONS, watching.questions)
    trainer = make(settings)
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    start = [weight.detach().to("cpu", copy=True) for weight in weights]
    while True:
        found = last_checkpoint(place)
        resumed = int(found.name.partition("-")[2]) if found else 0
        if found:
            click.echo(f"{stage}: goes on from {found.name}")
        watch.rewind(place, resumed if found else None)
        try:
            result = _trained(trainer, watch.callback(stage, place, watching, start, memory), found)
            break
        except torch.OutOfMemoryError:
            settings = halved(trainer.args, settings, stage)
        # Not in the handler: what the failed step held lives as long as the exception does.
        del trainer
        gc.collect()
        torch.cuda.empty_cache()
        with torch.no_grad():
            for weight, value in zip(weights, start, strict=True):
                weight.copy_(value)
        trainer = make(settings)
    seconds = time.monotonic() - before
    steps = trainer.state.global_step
    return trainer, {
        "steps": steps,
        "resumed_at": resumed,
        "batch": [trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps],
        "seconds": round(seconds, 1),
        "steps_per_second": round((steps - resumed) / seconds, 3),
        "train_loss": round(result.training_loss, 4),
        "memory": memory(),
    }


def halved(args: Any, settings: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return a `trainer:` mapping with half the batch and twice the accumulation; Fault if one row is too much."""
    batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    if batch % 2:
        raise Fault(f"{stage}: out of GPU memory with {batch} rows a step; quantize, shorten max_length or take lora")
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


def _trained(trainer: Any, progress: Any, found: Path | None) -> Any:
    from transformers import PrinterCallback, ProgressCallback

    for unwanted in () if sys.stderr.isatty() else (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    trainer.add_callback(progress)
    if hasattr(trainer.model, "peft_config"):
        # TRL holds an adapter on quantized weights in bfloat16, where the steps of a small learning rate round to
        # nothing; one read from a checkpoint is float32, and a run that goes on would not be the same training.
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    return trainer.train(resume_from_checkpoint=str(found) if found else None)
