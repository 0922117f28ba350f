"""Teach a model to write questions: fine-tuning on the author's mix; an interrupted run goes on as `sft` does.

training and validation chats (JSONL), commissions, a base model → a model or adapter folder, metrics. After training
the author writes a question for commission after commission, with thinking and without, and computer algebra says how
many are right; on the way it does so for the same few again and again.
"""

import shutil
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click

from schemas import rows
from schemas.params import Positive, load, nearest
from schemas.record import Commission, Example
from train import launch, ready, sft, watch
from train import model as models
from train.author import writing
from train.author.alike import Seen, taught
from train.card import save
from train.fit import Training, loaded
from train.generate import Sampling
from train.workplace import folder, running, workplace

SECTION = "author_sft"


class AuthorSftParams(Training, frozen=True):
    """How the author is taught."""

    thinking: tuple[bool, ...]
    """How it writes when it is looked at: with thoughts, without, or both."""
    fixed: tuple[str, ...]
    """Ids of the commissions (topic/difficulty/type) that are given to it on the way."""
    questions: Positive
    """Questions written after training, in each way."""
    sampling: Sampling
    """How it writes."""


def check(
    params: AuthorSftParams,
    start: ready.Start,
    train: ready.Rows[Example],
    validation: ready.Rows[Example],
    commissions: ready.Rows[Commission],
    anywhere: bool = False,
) -> Iterator[ready.Finding]:
    """Yield what is known of a training before its model is loaded; `anywhere` as for `ready.settings`."""
    yield from sft.check(params, SECTION, start, train, validation, anywhere, writing.tokens)
    yield from check_writing(params, SECTION, start, commissions)


def check_writing(
    params: AuthorSftParams, section: str, start: ready.Start, commissions: ready.Rows[Commission]
) -> Iterator[ready.Finding]:
    """Yield what is wrong with what an author is to write, and how."""
    yield from ready.some(commissions, "write for")
    known = [commission.id for commission in commissions.rows or ()]
    for id in params.fixed if known else ():
        if id not in known:
            yield ready.wrong(f"params.yaml: {section}.fixed: no commission '{id}'; {nearest(id, known, 'ids')}")
    yield from writing.levels(one for one in commissions.rows or () if one.id in params.fixed)
    yield from writing.ways(start, params.thinking, f"params.yaml: {section}.thinking")


def watching(params: AuthorSftParams, commissions: Sequence[Commission], tokenizer: Any, seen: Seen) -> watch.Watching:
    """Return which commissions are given on the way: each of the fixed ones, so many times, in each way."""
    by_id = {commission.id: commission for commission in commissions}
    given = {
        thinking: {
            f"{id}/{'thinking' if thinking else 'at once'}/{n}": by_id[id]
            for n in range(params.watch.questions)
            for id in params.fixed
        }
        for thinking in params.thinking
    }
    return writing.watching(params, given, params.sampling, tokenizer, seen)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("validation", type=click.Path(path_type=Path))
@click.argument("prompts", type=click.Path(path_type=Path))
@click.argument("base")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(train: Path, validation: Path, prompts: Path, base: str, out: Path, metrics: Path) -> None:
    """Train BASE, or the model that author_sft.model names instead, on TRAIN; write the author to OUT."""
    params = load(SECTION, AuthorSftParams)
    start = params.model or base
    models.quiet(local=models.is_local(start))
    chats, held, commissions = (
        ready.read(train, Example),
        ready.read(validation, Example),
        ready.read(prompts, Commission),
    )
    ready.insist(check(params, ready.Start(start), chats, held, commissions))
    launch.launch(params.accelerate, "train.author_sft", train, validation, prompts, base, out, metrics, whole=False)
    place = workplace(SECTION, (params, start), [train, validation, prompts, Path(start)])
    with running(place):
        network, tokenizer = loaded(params, start)
        limit = sft.trl_config(params, SECTION, params.trainer, place).max_length
        data, lengths = sft.dataset(chats.rows or (), tokenizer, limit, writing.tokens)
        held_data, _ = sft.dataset(held.rows or (), tokenizer, limit, writing.tokens)
        told = commissions.rows or ()
        watched = watching(params, told, tokenizer, Seen(taught(chats.rows or ())))
        trainer, trained = sft.sft(params, SECTION, network, tokenizer, (data, held_data), place, watched)
        asked = [] if launch.sharded() else list(islice(cycle(told), params.questions))
        samples = [
            written
            for thinking in params.thinking
            for written in writing.written(trainer.model, tokenizer, asked, params.sampling, thinking, params.engine)
        ]
        verdicts = {
            "thinking" if thinking else "at_once": writing.shares([one for one in samples if one.thinking is thinking])
            for thinking in params.thinking
        }
        figures: dict[str, Any] = {**lengths, **trained, "verdicts": verdicts}
        with folder(out) as new:
            save(trainer, tokenizer, new, params, SECTION, start, figures)
            rows.write(new / "samples.jsonl", samples)
        rows.write_json(metrics, figures)
        shutil.rmtree(place)
    said = ", ".join(f"{share['confirmed']:.0%} right {way.replace('_', ' ')}" for way, share in verdicts.items())
    click.echo(
        f"{SECTION}: {figures['steps']} steps in {figures['seconds']} s, eval loss {figures['eval_loss']}; of "
        f"{len(asked)} questions {said}"
    )


if __name__ == "__main__":
    main()
