"""What can be watched of a training: its log, and the same few questions answered again and again on its way.

Both lie in the workplace of the run while it goes on and, without timings, in the model's folder when it is done:
`log.jsonl` (later `curve.jsonl`), `watched.jsonl` with the questions, `checkpoints.jsonl` with every reply to them.
Watching changes nothing: the same weights come out, bit for bit, with it and without.
"""

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from schemas import rows
from schemas.params import Count, Params, Positive
from schemas.record import Commission, Example, Prompt, Record, Row

LOG, QUESTIONS, REPLIES = "log.jsonl", "watched.jsonl", "checkpoints.jsonl"
SAY = 20.0
"""Seconds between two lines on the terminal."""

T = TypeVar("T", Example, Prompt, Commission, Record)
Memory = Callable[[], dict[str, float] | None]
AsItWas = Callable[[], AbstractContextManager[None]]
"""Lends the model the weights that it had before training."""


class Watch(Params, frozen=True):
    """Which questions are answered, greedily, on the way."""

    questions: Count
    """Held out of training; 0: none."""
    every: Positive
    """Steps; before the first step and after the last one too."""


class Watched(Row, frozen=True):
    """A question that is answered on the way."""

    id: str
    question: str
    reference: str
    """The reply, or the letter, that is right."""


class Reply(Row, frozen=True, omit_defaults=True):
    """How a watched question was answered after so many steps."""

    step: int
    id: str
    reply: str
    right: bool
    kl: float | None
    """How far the model is from the one before training, on the tokens of this reply; None: not measured."""
    qualities: dict[str, float] = msgspec.field(default_factory=dict)
    """What a question of the author is worth, each within 0 and 1, unweighted; of an answer there are none."""


class Watching(NamedTuple):
    """What `fit` is to watch."""

    every: int
    questions: Sequence[Watched]
    ask: Callable[[Any, int, AsItWas], Sequence[Reply]]
    """Answers all questions with the model as it stands after so many steps."""


def chosen(held: Sequence[T], count: int, seed: int) -> list[T]:
    """Return `count` of the rows, spread over all; which are is decided by id and seed, not by order."""
    return sorted(held, key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).digest())[:count]


def rewind(place: Path, step: int | None) -> None:
    """Take back what was written after a checkpoint, of which the run goes on; None: all of it."""
    for name in (LOG, REPLIES):
        path = place / name
        if not path.exists():
            continue
        lines = path.read_bytes().split(b"\n")[:-1]  # what a kill cut off has no line end
        kept = [line for line in lines if step is not None and json.loads(line)["step"] <= step]
        with rows.whole(path) as file:
            file.write(b"".join(line + b"\n" for line in kept))


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Give random numbers and the modes of the model's parts back as they were."""
    import numpy as np
    import torch

    modes = [(part, part.training) for part in model.modules()]
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        for part, mode in modes:
            part.training = mode


@contextmanager
def as_it_was(weights: Sequence[Any], start: Sequence[Any]) -> Iterator[None]:
    """Lend weights the values they had at the start; those of now come back, bit for bit."""
    import torch

    now = [weight.detach().to("cpu", copy=True) for weight in weights]
    with torch.no_grad():
        try:
            for weight, value in zip(weights, start, strict=True):
                weight.copy_(value)
            yield
        finally:
            for weight, value in zip(weights, now, strict=True):
                weight.copy_(value)


def callback(stage: str, place: Path, watching: Watching | None, start: Sequence[Any], memory: Memory) -> Any:
    """Return a callback that logs to the workplace, asks the watched questions, and says a line now and then.

    `start` are the weights to be trained as they were before, in the model's order; `memory` measures that of the GPU.
    """
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.said = time.monotonic()
            self.began = (self.said, 0)
            self.mark = (self.said, 0, 0.0)

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kw: Any) -> None:
            if state.global_step == 0:
                self.look(state, model)
            self.began = (time.monotonic(), state.global_step)
            self.mark = (*self.began, 0.0)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kw: Any) -> None:
            last = state.global_step >= state.max_steps or control.should_training_stop
            if watching and (last or state.global_step % watching.every == 0):
                self.look(state, model)

        def look(self, state: Any, model: Any) -> None:
            if watching is None or not watching.questions or not state.is_world_process_zero:
                return
            before = time.monotonic()
            weights = [weight for weight in model.parameters() if weight.requires_grad]
            with undisturbed(model):
                replies = watching.ask(model, state.global_step, lambda: as_it_was(weights, start))
            append(place / REPLIES, b"".join(msgspec.json.encode(reply) + b"\n" for reply in replies))
            seconds, step, tokens = self.mark
            self.mark = (seconds + time.monotonic() - before, step, tokens)  # it is no part of the speed

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kw: Any) -> None:
            if not state.is_world_process_zero or not logs or "train_runtime" in logs:
                return
            line = {"step": state.global_step, "of": state.max_steps, **logs, **self.speed(args, state, logs)}
            append(place / LOG, (json.dumps(line) + "\n").encode())
            now = time.monotonic()
            if now - self.said < SAY:
                return
            self.said = now
            rate = (state.global_step - self.began[1]) / (now - self.began[0])
            left = (state.max_steps - state.global_step) / rate if rate else 0
            seen = ", ".join(
                f"{name} {float(logs[name]):.3f}" for name in ("loss", "eval_loss", "reward") if name in logs
            )
            click.echo(f"{stage}: step {state.global_step} of {state.max_steps}, {seen}, {left:.0f} s left")
            sys.stdout.flush()

        def speed(self, args: Any, state: Any, logs: dict[str, Any]) -> dict[str, float]:
            before, step, tokens = self.mark
            now, seen = time.monotonic(), float(logs.get("num_tokens", 0.0))
            self.mark = (now, state.global_step, seen or tokens)
            if state.global_step == step or "eval_loss" in logs:
                return {}
            batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            made = {"samples_per_second": round((state.global_step - step) * batch / (now - before), 3)}
            if seen and tokens:
                made["tokens_per_second"] = round((seen - tokens) / (now - before), 1)
            return made | (memory() or {})

    return Progress()


def append(path: Path, lines: bytes) -> None:
    """Add whole lines to a file in one write, so that a reader sees them or not."""
    with open(path, "ab") as file:
        file.write(lines)


def keep(place: Path, new: Path) -> None:
    """Put what was watched into the model's folder; empty files where nothing was."""
    for name in (QUESTIONS, REPLIES):
        path = place / name
        (new / name).write_bytes(path.read_bytes() if path.exists() else b"")
