"""Print the variants side by side: how each was trained, what it took, how it answers.

A project's metrics/ and models/ → a table; what is not there yet is a dash.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from msgspec import Struct

from schemas.faults import Fault
from train.score import Pair, said
from train.workplace import size

WIDTH = 120
GAP = "  "
NONE = "-"

T = TypeVar("T", bound=Struct)
Interval = tuple[float, float]


class Run(Struct, frozen=True):
    """What a model's run.json says."""

    stage: str
    start: str


class Memory(Struct, frozen=True):
    """Of a GPU."""

    peak_gib: float


class Trained(Struct, frozen=True):
    """What the metrics of a training say."""

    steps: int
    batch: tuple[int, int]
    """Rows for a device, and how many such make a step."""
    seconds: float
    steps_per_second: float
    memory: Memory | None = None
    rows: int | None = None
    pairs: int | None = None
    prompts: int | None = None


class Predicted(Struct, frozen=True):
    """What the metrics of answering say."""

    seconds: float
    unanswered: int


class Right(Struct, frozen=True):
    """A share of right answers."""

    accuracy: float


class Scored(Right, frozen=True):
    """What the score says of a variant."""

    wilson95: Interval
    neutrality: float | None = None
    by_part: dict[str, Right] = {}


class Score(Struct, frozen=True):
    """What the score says."""

    variants: dict[str, Scored]
    pairs: list[Pair]
    no_key: str | None = None


class Variant(Struct, frozen=True):
    """All that is known of a variant; None: not yet, or not of this one."""

    name: str
    stage: str | None
    base: str | None
    """The model that training began with."""
    steps: int | None
    samples: int | None
    """Rows, pairs or prompts to train on."""
    training_seconds: float | None
    samples_per_second: float | None
    peak_gib: float | None
    """Of GPU memory, in training."""
    bytes: int | None
    """Of the weights that were written."""
    adapter: bool
    predict_seconds: float | None
    unanswered: int | None
    accuracy: float | None
    wilson95: Interval | None
    public: float | None
    private: float | None
    neutrality: float | None


def variants(root: Path, score: Score | None) -> list[Variant]:
    """Return the variants that a project has trained, asked or scored, the scored ones first and in their order."""
    metrics, models = root / "metrics", root / "models"
    runs = {path.parent.name: path for path in models.glob("*/run.json")}
    asked = {path.stem: path for path in (metrics / "predict").glob("*.json")}
    scored = score.variants if score else {}
    names = dict.fromkeys([*scored, *sorted(asked), *sorted(runs)])
    return [_variant(name, runs.get(name), asked.get(name), metrics, scored.get(name)) for name in names]


def _variant(name: str, run: Path | None, asked: Path | None, metrics: Path, right: Scored | None) -> Variant:
    made = _read(run, Run)
    trained = _read(metrics / f"{made.stage.replace('@', '/')}.json", Trained) if made else None
    predicted = _read(asked, Predicted)
    parts = right.by_part if right else {}
    public, private = (parts[part].accuracy if part in parts else None for part in ("public", "private"))
    weights = [path.stat().st_size for path in run.parent.glob("*.safetensors")] if run else []
    return Variant(
        name=name,
        stage=made.stage if made else None,
        base=made.start if made else None,
        steps=trained.steps if trained else None,
        samples=(trained.rows or trained.pairs or trained.prompts) if trained else None,
        training_seconds=trained.seconds if trained else None,
        samples_per_second=_rate(trained) if trained else None,
        peak_gib=trained.memory.peak_gib if trained and trained.memory else None,
        bytes=sum(weights) or None,
        adapter=bool(run and (run.parent / "adapter_config.json").is_file()),
        predict_seconds=predicted.seconds if predicted else None,
        unanswered=predicted.unanswered if predicted else None,
        accuracy=right.accuracy if right else None,
        wilson95=right.wilson95 if right else None,
        public=public,
        private=private,
        neutrality=right.neutrality if right else None,
    )


def _rate(trained: Trained) -> float:
    rows, times = trained.batch
    return round(trained.steps_per_second * rows * times, 1)


def _read(path: Path | None, type_: type[T]) -> T | None:
    if path is None or not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except msgspec.DecodeError as error:
        raise Fault(f"{path}: {error}; its stage writes it, run `dvc repro`") from None


def cells(found: Sequence[Variant]) -> list[list[str]]:
    """Return the table as rows of text, the first one the header."""
    return [["", *(one.name for one in found)], *([label, *map(shown, found)] for label, shown in FIGURES.items())]


def table(rows: Sequence[Sequence[str]], width: int = WIDTH) -> str:
    """Return rows of text in columns, those that do not fit beside one another in blocks below; long cells are cut."""
    labels = max(wide(row[0]) for row in rows)
    most = width - labels - len(GAP)
    columns = [[cut(cell, most) for cell in column] for column in list(zip(*rows, strict=True))[1:]]
    blocks: list[list[list[str]]] = [[]]
    left = width - labels
    for column in columns:
        needed = len(GAP) + max(map(wide, column))
        if needed > left and blocks[-1]:
            blocks.append([])
            left = width - labels
        blocks[-1].append(column)
        left -= needed
    return "\n\n".join("\n".join(_lines([row[0] for row in rows], labels, block)) for block in blocks)


def _lines(labels: Sequence[str], width: int, columns: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(wide, column)) for column in columns]
    for n, label in enumerate(labels):
        given = [" " * (w - wide(column[n])) + column[n] for w, column in zip(widths, columns, strict=True)]
        yield GAP.join([label + " " * (width - wide(label)), *given])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as a table of Markdown."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|---" + "|---:" * (len(rows[0]) - 1) + "|")
    return "\n".join(lines)


def wide(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a Chinese character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def cut(text: str, most: int) -> str:
    """Return a text that takes at most so many columns; of a longer one the end, which tells models apart."""
    if wide(text) <= most:
        return text
    while wide(text) > most - 1:
        text = text[1:]
    return "…" + text


def lasting(seconds: float) -> str:
    """Return a time as a person reads it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _or_dash(show: Callable[[Any], str], name: str) -> Callable[[Variant], str]:
    def shown(variant: Variant) -> str:
        value = getattr(variant, name)
        return NONE if value is None else show(value)

    return shown


def _interval(pair: Interval) -> str:
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]"


@click.command(help=__doc__)
@click.argument("project", type=click.Path(path_type=Path), default=Path())
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a table of Markdown.")
def main(project: Path, as_json: bool, as_markdown: bool) -> None:
    """Print what there is of every variant in PROJECT."""
    score = _read(project / "metrics/score.json", Score)
    found = variants(project, score)
    if not found:
        raise Fault(f"{project}: no variant is trained, asked or scored; run `dvc repro` first")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    rows = cells(found)
    if as_markdown:
        click.echo(markdown(rows))
        return
    click.echo(table(rows))
    if score and score.no_key:
        click.echo(f"\nnothing is scored: {score.no_key}")
    if score and score.pairs:
        click.echo("\n" + "\n".join(said(score.pairs)))


# Every line of the table, top to bottom.
FIGURES: dict[str, Callable[[Variant], str]] = {
    "stage": _or_dash(str, "stage"),
    "trained from": _or_dash(str, "base"),
    "steps": _or_dash("{:,}".format, "steps"),
    "samples": _or_dash("{:,}".format, "samples"),
    "training time": _or_dash(lasting, "training_seconds"),
    "samples/s": _or_dash("{:,.1f}".format, "samples_per_second"),
    "peak memory, GiB": _or_dash("{:.2f}".format, "peak_gib"),
    "size": lambda variant: _or_dash(size, "bytes")(variant) + (" (adapter)" if variant.adapter else ""),
    "predict time": _or_dash(lasting, "predict_seconds"),
    "unanswered": _or_dash("{:,}".format, "unanswered"),
    "accuracy": _or_dash("{:.3f}".format, "accuracy"),
    "95 % interval": _or_dash(_interval, "wilson95"),
    "public": _or_dash("{:.3f}".format, "public"),
    "private": _or_dash("{:.3f}".format, "private"),
    "neutrality": _or_dash("{:.3f}".format, "neutrality"),
}

if __name__ == "__main__":
    main()
