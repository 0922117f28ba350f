"""The command that prints what each quality gives for replies of an author, and what computer algebra says of them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import click
import msgspec
from msgspec import Struct

from schemas import rows
from schemas.faults import Fault
from schemas.params import load, nearest
from schemas.record import Example
from train import author_grpo, reinforce, rewards
from train.author.alike import Seen, taught
from train.author.examine import examine
from train.author.quality import LEVELS, QUALITIES, bound


class Line(Struct, frozen=True):
    """What is read of a line; it may hold more."""

    response: str | None = None
    reply: str | None = None
    """The same, as the samples of author_sft have it."""
    id: str | int | None = None
    """The same for all replies to one prompt; of a commission, topic/difficulty/type."""
    difficulty: str | None = None


class Given(Struct, frozen=True):
    """A reply and the difficulty that was asked for."""

    id: str
    text: str
    difficulty: str


class Judged(Struct, frozen=True):
    """A reply's verdict and qualities."""

    id: str
    verdict: str
    faults: dict[str, str]
    """All that is against it: a code and what a person needs to understand it."""
    qualities: dict[str, float]
    total: float
    """Weighted."""
    question: str


def read(lines: Iterable[bytes], where: str, difficulty: str | None) -> list[Given]:
    """Return the replies of a JSONL file; Fault `WHERE:LINE: what is wrong`."""
    found = [_given(line, n, where, difficulty) for n, line in enumerate(rows.decoded(where, 1, lines, Line), 1)]
    if not found:
        example = '{"response": "<item>…</item>", "difficulty": "basic"}'
        raise Fault(f"{where}: empty; it needs a line for each reply, such as {example}")
    return found


def _given(line: Line, number: int, where: str, difficulty: str | None) -> Given:
    text = line.reply if line.response is None else line.response
    if text is None:
        raise Fault(f"{where}:{number}: no text; put the reply under 'response'")
    id = str(number if line.id is None else line.id)
    parts = id.split("/")
    wanted = line.difficulty or difficulty or (parts[1] if len(parts) == 3 else None)
    if wanted is None:
        raise Fault(f"{where}:{number}: no difficulty; put the one asked for under 'difficulty', or give --difficulty")
    if wanted not in LEVELS:
        raise Fault(f"{where}:{number}: difficulty '{wanted}': {nearest(wanted, LEVELS, 'difficulties')}")
    return Given(id, text, wanted)


def judge(given: Sequence[Given], seen: Seen, weights: Mapping[str, float]) -> list[Judged]:
    """Return each reply with its verdict and the qualities that have weights."""
    columns = {
        "prompts": [one.id for one in given],
        "completions": [one.text for one in given],
        "difficulty": [one.difficulty for one in given],
    }
    made = {name: bound(name, seen)(**columns) for name in weights}
    judged = []
    for n, (one, total) in enumerate(zip(given, reinforce.totals(made, weights), strict=True)):
        found = examine(one.text)
        qualities = {name: values[n] for name, values in made.items()}
        shown = found.item.question if found.item else one.text
        judged.append(Judged(one.id, found.verdict, found.faults, qualities, total, shown))
    return judged


def table(judged: Sequence[Judged]) -> str:
    """Return a line for each reply and the means, in columns."""
    names = list(judged[0].qualities)
    lines = [["id", "verdict", "why", *names, "total", "question"]]
    for one in judged:
        values = [*one.qualities.values(), one.total]
        numbers = [f"{value:.3f}" for value in values]
        lines.append([one.id, one.verdict, next(iter(one.faults), "-"), *numbers, rewards.shortened(one.question)])
    means = [fmean(one.qualities[name] for one in judged) for name in names] + [fmean(one.total for one in judged)]
    lines.append(["mean", "", "", *(f"{mean:.3f}" for mean in means), ""])
    return rewards.laid_out(lines, [False, False, False, *(True for _ in means), False])


@click.command()
@click.argument("file")
@click.option(
    "--taught", "chats", type=click.Path(path_type=Path), help="Chats (JSONL) whose questions are new no more."
)
@click.option("--difficulty", help="The one asked for, where a line does not say.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, one for each reply.")
def main(file: str, chats: Path | None, difficulty: str | None, as_json: bool) -> None:
    """Print what each quality gives for an author's replies in FILE (- for standard input).

    FILE is JSON Lines: the reply under `response`, `difficulty` and `id`, the same for all replies to one prompt. The
    samples of an author are read as they are.
    """
    weights = load(f"{author_grpo.SECTION}.qualities", dict[str, float])
    for name in weights:
        if name not in QUALITIES:
            where = f"params.yaml: {author_grpo.SECTION}.qualities.{name}"
            raise Fault(f"{where}: no such quality; {nearest(name, QUALITIES, 'qualities')}")
    given = read(rewards.lines_of(file), file, difficulty)
    seen = Seen(taught(rows.read(chats, Example)) if chats else ())
    judged = judge(given, seen, weights)
    if as_json:
        click.echo(msgspec.json.Encoder().encode_lines(judged), nl=False)
        return
    click.echo(table(judged))
    click.echo(f"weights: {', '.join(f'{name} {weight:g}' for name, weight in weights.items())}")


if __name__ == "__main__":
    main()
