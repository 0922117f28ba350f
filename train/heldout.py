"""Questions held out of a training: how a model answers them, before it, on its way and after it."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import msgspec

from schemas.record import Letter, Prompt
from train import watch
from train.answers import extract
from train.fit import Training
from train.generate import Held, Sampling, generate
from train.likelihood import divergence


def letter(text: str) -> Letter | None:
    """Return the letter that a reply gives; None if it gives none."""
    found = extract(text)
    return found[0] if found else None


def replies(
    network: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Sampling, engine: Held = "transformers"
) -> list[str]:
    """Return the model's reply to each question."""
    asked = [prompt.prompt for prompt in prompts]
    found = {n: text for batch in generate(network, tokenizer, asked, sampling, engine=engine) for n, text in batch}
    return [found[n] for n in range(len(asked))]


def watching(
    params: Training, held: Sequence[Prompt], tokenizer: Any, sampling: Sampling, temperature: float
) -> watch.Watching:
    """Return which held-out questions are answered greedily on the way, each reply with its distance from the start.

    `temperature` is that of the distributions that are compared.
    """
    questions = watch.chosen(held, params.watch.questions, params.seed)
    greedy = msgspec.structs.replace(sampling, temperature=0.0)

    def ask(network: Any, step: int, as_it_was: watch.AsItWas) -> list[watch.Reply]:
        given = replies(network, tokenizer, questions, greedy, params.engine)
        asked = [prompt.prompt for prompt in questions]
        kl = divergence(network, tokenizer, asked, given, temperature, as_it_was)
        return [
            watch.Reply(step=step, id=prompt.id, reply=reply, right=letter(reply) == prompt.answer, kl=far)
            for prompt, reply, far in zip(questions, given, kl, strict=True)
        ]

    shown = [watch.Watched(id=p.id, question=p.prompt[-1].content, reference=p.answer) for p in questions]
    return watch.Watching(params.watch.every, shown, ask)


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return a mean and its normal 95 % interval."""
    mean = fmean(values)
    half = 1.96 * stdev(values) / sqrt(len(values)) if len(values) > 1 else float("inf")
    return {"mean": round(mean, 4), "interval95": [round(mean - half, 4), round(mean + half, 4)]}
