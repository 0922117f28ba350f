"""Let a trained model answer the test questions, in batches, going on where an interrupted run stopped.

model folder (or a name on the Hub), test file (CSV) → predictions (JSONL), metrics.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from schemas import rows
from schemas.chat import ask
from schemas.params import ChatPrompt, Positive, load
from schemas.record import Prediction
from train import model as models
from train import submission
from train.answers import NONE, answer


class PredictParams(models.Sampling, frozen=True):
    """How one variant answers."""

    prompt: str
    """The key of the section `prompts` that the variant was trained with."""
    votes: Positive
    """Replies per question; the letter most of them give wins, the first of its replies stands for it."""
    dtype: str
    quantize: models.Quantize


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
    place = models.workplace(f"predict@{variant}", (params, prompt, model), [test, Path(model)])
    models.quiet(local=models.is_local(model))
    began = time.monotonic()
    source = models.Source(model=None, dtype=params.dtype, quantize=params.quantize, lora=None)  # type: ignore[arg-type]
    network, tokenizer = models.load(source, model, train=False)
    loaded = time.monotonic()
    chats = [ask(prompt, question.question, question.options) for question in asked]
    file = place / "replies.jsonl"
    replies = kept(file)
    reused = len(replies)
    with open(file, "ab") as log:
        for vote in range(params.votes):
            sampling = msgspec.structs.replace(params, seed=params.seed + 1_000_003 * vote)
            done = {reply.index for reply in replies if reply.vote == vote}
            for batch in models.generate(network, tokenizer, chats, sampling, done):
                new = [Reply(vote, index, text) for index, text in batch]
                log.write(b"".join(msgspec.json.encode(reply) + b"\n" for reply in new))
                log.flush()
                os.fsync(log.fileno())
                replies += new
    made = predictions([question.id for question in asked], {(r.vote, r.index): r for r in replies}.values())
    rows.write(out, made)
    seconds = time.monotonic() - loaded
    strategies = dict(sorted(Counter(p.strategy for p in made).items()))
    rows.write_json(
        metrics,
        {
            "n": len(made),
            "strategies": strategies,
            "unanswered": strategies.get(NONE, 0),
            "characters_mean": round(sum(len(p.response) for p in made) / max(1, len(made)), 1),
            "reused": reused,
            "load_seconds": round(loaded - began, 1),
            "seconds": round(seconds, 1),
            "memory": models.memory(),
        },
    )
    shutil.rmtree(place)
    click.echo(f"predict@{variant}: {len(made):,} answers in {seconds:.1f} s ({reused} kept), found by {strategies}")


if __name__ == "__main__":
    main()
