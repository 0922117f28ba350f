"""Let the model with reasoning answer the questions for reinforcement: what it gets wrong becomes preference pairs.

model folder (or a name on the Hub), prompts (Prompt) → answers (Prediction, in the order of the prompts), metrics.

The prompts are put as they are, and an interrupted run goes on where it stopped, as with `predict`.
"""

from pathlib import Path

import click

from schemas import rows
from schemas.params import load
from schemas.record import Prompt
from train.answers import NONE, accuracy
from train.predict import AnswerParams, answered


class AttemptParams(AnswerParams, frozen=True):
    """How the model answers."""


@click.command(help=__doc__.partition("\n")[0])
@click.argument("model")
@click.argument("prompts", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(model: str, prompts: Path, out: Path, metrics: Path) -> None:
    """Answer PROMPTS with MODEL."""
    params = load("attempt", AttemptParams)
    asked = list(rows.read(prompts, Prompt))
    ids, chats = [prompt.id for prompt in asked], [prompt.prompt for prompt in asked]
    with answered("attempt", params, model, ids, chats) as found:
        rows.write(out, found.predictions)
        right = [
            given.strategy != NONE and given.answer == prompt.answer
            for prompt, given in zip(asked, found.predictions, strict=True)
        ]
        rows.write_json(metrics, {**found.metrics(), "right": sum(right), **accuracy(right)})
    click.echo(f"attempt: {sum(right):,} of {len(right):,} right in {found.seconds:.1f} s ({found.reused} kept)")


if __name__ == "__main__":
    main()
