"""Let a trained model answer the test questions, in batches, going on where an interrupted run stopped.

model folder (or a name on the Hub), test file (CSV) → predictions (JSONL), metrics.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from schemas import rows
from schemas.chat import ask
from schemas.params import ChatPrompt, Positive, load
from schemas.record import Message, Prediction
from train import model as models
from train import submission
from train.answers import NONE, answer
from train.generate import Engine, Sampling, generate
from train.memory import memory
from train.workplace import workplace


class AnswerParams(Sampling, frozen=True):
    """How a model answers."""

    votes: Positive
    """Replies per question; the letter most of them give wins, the first of its replies stands for it."""
    engine: Engine
    dtype: str
    quantize: models.Quantize


class PredictParams(AnswerParams, frozen=True):
    """How one variant answers."""

    prompt: str
    """The key of the section `prompts` that the variant was trained with."""
    by: Literal["reply", "likelihood"]
    """What makes the answer: the letter found in a reply, or the likeliest of the four as its first token."""


class Reply(msgspec.Struct, frozen=True):
    """One reply as generated, on its way."""

    vote: int
    index: int
    text: str


def predictions(ids: Sequence[str], replies: Iterable[Reply]) -> list[Prediction]:
    """Return one prediction per question, in order, by majority; of letters with equal votes the first given wins."""
    by_question: list[list[Prediction]] = [[] for _ in ids]
    for reply in sorted(replies, key=lambda r: (r.index, r.vote)):
        id = ids[reply.index]
        letter, strategy = answer(reply.text, id)
        by_question[reply.index].append(Prediction(id=id, response=reply.text, answer=letter, strategy=strategy))
    made = []
    for given in by_question:
        found = [p for p in given if p.strategy != NONE] or given
        most = Counter(p.answer for p in found).most_common(1)[0][0]
        made.append(next(p for p in found if p.answer == most))
    return made


def kept(path: Path) -> list[Reply]:
    """Return the replies of an interrupted run; a last line that a kill cut off is dropped."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    path.write_bytes(whole)
    return [msgspec.json.decode(line, type=Reply) for line in whole.splitlines()]


class Answered(msgspec.Struct, frozen=True):
    """What a model answered, and what it took."""

    predictions: list[Prediction]
    """One a question, in order."""
    reused: int
    """Replies of an interrupted run."""
    load_seconds: float
    seconds: float

    def strategies(self) -> dict[str, int]:
        """Return how often each rung of the ladder found the answer."""
        return dict(sorted(Counter(made.strategy for made in self.predictions).items()))

    def metrics(self) -> dict[str, Any]:
        """Return the figures that every metrics file about answers holds."""
        strategies = self.strategies()
        characters = sum(len(made.response) for made in self.predictions)
        return {
            "n": len(self.predictions),
            "strategies": strategies,
            "unanswered": strategies.get(NONE, 0),
            "characters_mean": round(characters / max(1, len(self.predictions)), 1),
            "reused": self.reused,
            "load_seconds": round(self.load_seconds, 1),
            "seconds": round(self.seconds, 1),
            "memory": memory(),
        }


@contextmanager
def answered(
    stage: str, params: AnswerParams, model: str, ids: Sequence[str], chats: Sequence[Sequence[Message]]
) -> Iterator[Answered]:
    """Give the model's answers to the chats, going on where a run with the same params, chats and model was stopped.

    Its replies are kept until the block ends well.
    """
    place = workplace(stage, (params, chats, model), [Path(model)])
    models.quiet(local=models.is_local(model))
    began = time.monotonic()
    source = models.Source(model=None, dtype=params.dtype, quantize=params.quantize, lora=None)  # type: ignore[arg-type]
    network, tokenizer = models.load(source, model, train=False)
    loaded = time.monotonic()
    file = place / "replies.jsonl"
    replies = kept(file)
    reused = len(replies)
    with open(file, "ab") as log:
        for vote in range(params.votes):
            sampling = msgspec.structs.replace(params, seed=params.seed + 1_000_003 * vote)
            done = {reply.index for reply in replies if reply.vote == vote}
            for batch in generate(network, tokenizer, chats, sampling, done):
                new = [Reply(vote, index, text) for index, text in batch]
                log.write(b"".join(msgspec.json.encode(reply) + b"\n" for reply in new))
                log.flush()
                os.fsync(log.fileno())
                replies += new
    made = predictions(ids, {(r.vote, r.index): r for r in replies}.values())
    yield Answered(made, reused, loaded - began, time.monotonic() - loaded)
    shutil.rmtree(place)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("variant")
@click.argument("model")
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(variant: str, model: str, test: Path, out: Path, metrics: Path) -> None:
    """Answer TEST with MODEL as the section predict.VARIANT says."""
    params = load(f"predict.{variant}", PredictParams)
    prompt = load(f"prompts.{params.prompt}", ChatPrompt)
    asked = submission.questions(test)
    chats = [ask(prompt, question.question, question.options) for question in asked]
    ids = [question.id for question in asked]
    with answered(f"predict@{variant}", params, model, ids, chats) as found:
        rows.write(out, found.predictions)
        rows.write_json(metrics, found.metrics())
    click.echo(
        f"predict@{variant}: {len(ids):,} answers in {found.seconds:.1f} s ({found.reused} kept), "
        f"found by {found.strategies()}"
    )


if __name__ == "__main__":
    main()
