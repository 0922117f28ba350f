"""Hand the answers in: the test file, the submission and what lies behind each answer.

predictions (JSONL), test file (CSV) → submission.csv (id, answer), detailed_results.csv, metrics.

`python -m train.submission --check submission.csv test.csv` looks at a submission that was written or edited by hand.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.record import LETTERS, Letter, Options, Prediction
from train.answers import NONE
from train.workplace import folder

SHOWN = 20
"""Faults of a file that are told one by one."""
WIDE = str.maketrans("ＡＢＣＤ", "ABCD")


class Question(msgspec.Struct, frozen=True):
    """One line of the test file."""

    id: str
    question: str
    options: Options


class Line(NamedTuple):
    """A row of a CSV file."""

    number: int
    """Of the line in the file that it begins in, from 1."""
    cells: dict[str, str]


def table(path: Path, columns: Sequence[str]) -> list[Line]:
    """Return the rows of a CSV file that has these columns, the first of which names each row once.

    Fault for a file that is no such table: what is wrong with it as a whole in one line, what is wrong with its rows in
    a line each.
    """
    header, body = parsed(path)
    if len(header) == 1 and (by := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise Fault(f"{path}: its columns are divided by {by!r}; save it with commas")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise Fault(f"{path}: column {twice[0]!r} comes more than once; remove one")
    if missing := [name for name in columns if name not in header]:
        raise Fault(f"{path}: no column {', '.join(missing)}; it needs {', '.join(columns)}")
    if not body:
        raise Fault(f"{path}: no rows under the header")
    found, wrong = [], []
    first: dict[str, int] = {}
    for number, cells in body:
        row = dict(zip(header, cells, strict=False))
        name = row.get(columns[0], "")
        if len(cells) != len(header):
            more = "more" if len(cells) > len(header) else "fewer"
            hint = "; text with a comma takes quotes" if len(cells) > len(header) else ""
            wrong.append((number, name, f"{more} cells ({len(cells)}) than the header ({len(header)}){hint}"))
        elif not name.strip():
            wrong.append((number, name, f"no {columns[0]}"))
        elif name in first:
            wrong.append((number, name, f"comes more than once, first in line {first[name]}"))
        else:
            found.append(Line(number, row))
        first.setdefault(name, number)
    refuse(path, wrong)
    return found


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; an earlier stage writes it, run `dvc repro`") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Fault(f"{path}: it is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Fault(f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Fault(f"{path}:{line}: a NUL character; the file is cut or no text")
    return text


def parsed(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file, and its rows with the lines they begin in; blank lines are passed over."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    found: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if cells:
                found.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise Fault(f"{path}:{start}: {error}; is a quote missing, or one too many?") from None
    if not found:
        raise Fault(f"{path}: the file is empty")
    return found[0][1], found[1:]


def refuse(path: Path, wrong: Sequence[tuple[int | None, str, str]]) -> None:
    """Fault if anything is wrong with the rows of a file: (line, id, what) each, those without a line last."""
    if not wrong:
        return
    told = sorted(wrong, key=lambda one: (one[0] is None, one[0] or 0))
    lines = [f"{path}{f':{line}' if line else ''}: id {id!r}: {what}" for line, id, what in told[:SHOWN]]
    more = [f"… and {len(told) - SHOWN:,} more"] if len(told) > SHOWN else []
    raise Fault("\n".join([*lines, *more]))


def questions(path: Path) -> list[Question]:
    """Return the test file's questions in its order; Fault for rows without a question or an option."""
    options = [f"option_{letter}" for letter in LETTERS]
    read = table(path, ["id", "question", *options])
    refuse(
        path,
        [
            (line.number, line.cells["id"], f"{name} is empty")
            for line in read
            for name in ("question", *options)
            if not line.cells[name].strip()
        ],
    )
    return [
        Question(row["id"], row["question"], (row["option_A"], row["option_B"], row["option_C"], row["option_D"]))
        for _, row in read
    ]


def answers(path: Path, wanted: Iterable[str], *, others: bool = False) -> dict[str, Letter]:
    """Return a submission's answers by id; Fault unless exactly the wanted ids have one each, A to D.

    With `others` it may have more ids than those wanted.
    """
    read = table(path, ["id", "answer"])
    given = {line.cells["id"] for line in read}
    asked = set(wanted)
    missing = asked - given
    near = {id.strip(): id for id in missing}
    wrong: list[tuple[int | None, str, str]] = []
    for number, row in read:
        id, letter = row["id"], row["answer"]
        if id not in asked and not others:
            meant = near.get(id.strip())
            missing.discard(meant or "")
            wrong.append((number, id, f"the test file has no such id{f'; it has {meant!r}' if meant else ''}"))
        elif letter not in LETTERS:
            plain = letter.strip().upper().translate(WIDE)
            hint = f"; write {plain}" if plain in LETTERS else ""
            wrong.append((number, id, f"answer {letter!r} is not one of A, B, C, D{hint}"))
    wrong += [(None, id, "no answer for it") for id in sorted(missing)]
    refuse(path, wrong)
    return {row["id"]: LETTERS["ABCD".index(row["answer"])] for _, row in read}


def write(path: Path, header: Sequence[str], lines: Iterable[Sequence[str]], quoting: int = csv.QUOTE_MINIMAL) -> None:
    """Write a CSV file with plain line ends."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n", quoting=quoting)  # type: ignore[arg-type]  # one of csv's numbers
        out.writerow(header)
        out.writerows(lines)


def submission(predictions: Iterable[Prediction], asked: Sequence[Question], out: Path) -> dict[str, object]:
    """Write both files into `out`, in the test file's order, check the first as it was written; return its figures."""
    by_id = {prediction.id: prediction for prediction in predictions}
    known = [(question, by_id[question.id]) for question in asked if question.id in by_id]
    write(out / "submission.csv", ["id", "answer"], ([p.id, p.answer] for _, p in known))
    write(
        out / "detailed_results.csv",
        ["id", "question", "answer", "response", "strategy"],
        ([p.id, q.question, p.answer, p.response.replace("\0", "\ufffd"), p.strategy] for q, p in known),
        csv.QUOTE_ALL,  # csv by itself leaves a lone carriage return unquoted, and a reader would end the line there
    )
    answers(out / "submission.csv", (question.id for question in asked))
    strategies = Counter(p.strategy for _, p in known)
    return {
        "n": len(known),
        "answers": distribution(p.answer for _, p in known),
        "strategies": dict(sorted(strategies.items())),
        "unanswered": strategies[NONE],
    }


def distribution(given: Iterable[Letter]) -> dict[str, int]:
    """Return how often each letter is given."""
    counted = Counter(given)
    return {letter: counted[letter] for letter in LETTERS}


@click.command(help=__doc__.partition("\n")[0])
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.argument("metrics", type=click.Path(path_type=Path), required=False)
@click.option("--check", is_flag=True, help="PREDICTIONS is a submission.csv: see whether it fits TEST, write nothing.")
def main(predictions: Path, test: Path, out: Path | None, metrics: Path | None, check: bool) -> None:
    """Check PREDICTIONS against TEST, write the files into OUT."""
    asked = questions(test)
    if check:
        given = answers(predictions, (question.id for question in asked))
        click.echo(f"{predictions}: fits {test}: {len(given):,} answers, {distribution(given.values())}")
        return
    if out is None or metrics is None:
        raise click.UsageError("OUT and METRICS are needed, unless --check is given")
    with folder(out) as new:
        figures = submission(rows.read(predictions, Prediction), asked, new)
    rows.write_json(metrics, figures)
    click.echo(
        f"submission: {figures['n']} answers, {figures['answers']}, {figures['unanswered']} without a letter found"
    )


if __name__ == "__main__":
    main()
