"""Hand the answers in: the test file, the submission and what lies behind each answer.

predictions (JSONL), test file (CSV) → submission.csv (id, answer), detailed_results.csv, metrics.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.record import LETTERS, Letter, Options, Prediction
from train.answers import NONE
from train.workplace import folder


class Question(msgspec.Struct, frozen=True):
    """One line of the test file."""

    id: str
    question: str
    options: Options


def table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file that has these columns; Fault for a missing file or column or a short row."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # read_text would unify line ends
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; an earlier stage writes it, run `dvc repro`") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise Fault(f"{path}: no column {', '.join(missing)}; it needs {', '.join(columns)}")
    found = list(reader)
    for row in found:
        if any(row[name] is None for name in columns):
            raise Fault(f"{path}: row {row[columns[0]]!r} is shorter than the header")
    return found


def questions(path: Path) -> list[Question]:
    """Return the test file's questions in its order; Fault if an id comes twice."""
    options = [f"option_{letter}" for letter in LETTERS]
    read = table(path, ["id", "question", *options])
    found = [Question(row["id"], row["question"], tuple(row[name] for name in options)) for row in read]  # type: ignore[arg-type]
    _once(path, (question.id for question in found))
    return found


def answers(path: Path, wanted: Iterable[str]) -> dict[str, Letter]:
    """Return a submission's answers by id; Fault unless exactly the wanted ids have one each, A to D."""
    read = table(path, ["id", "answer"])
    _once(path, (row["id"] for row in read))
    given = {row["id"]: row["answer"] for row in read}
    asked = set(wanted)
    for what, ids in (("no answer for", asked - given.keys()), ("the test file has no", given.keys() - asked)):
        if ids:
            raise Fault(f"{path}: {what} id {min(ids)!r} ({len(ids)} such); predict from the same test file again")
    for id, letter in given.items():
        if letter not in LETTERS:
            raise Fault(f"{path}: id {id!r}: answer {letter!r} is not one of A, B, C, D")
    return {id: LETTERS["ABCD".index(letter)] for id, letter in given.items()}


def _once(path: Path, ids: Iterable[str]) -> None:
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise Fault(f"{path}: id {twice[0]!r} comes more than once")


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
        ([p.id, q.question, p.answer, p.response, p.strategy] for q, p in known),
        csv.QUOTE_ALL,  # csv by itself leaves a lone carriage return unquoted, and a reader would end the line there
    )
    answers(out / "submission.csv", (question.id for question in asked))
    given = Counter(p.answer for _, p in known)
    strategies = Counter(p.strategy for _, p in known)
    return {
        "n": len(known),
        "answers": {letter: given[letter] for letter in LETTERS},
        "strategies": dict(sorted(strategies.items())),
        "unanswered": strategies[NONE],
    }


@click.command(help=__doc__.partition("\n")[0])
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(predictions: Path, test: Path, out: Path, metrics: Path) -> None:
    """Check PREDICTIONS against TEST, write the files into OUT."""
    asked = questions(test)
    with folder(out) as new:
        figures = submission(rows.read(predictions, Prediction), asked, new)
    rows.write_json(metrics, figures)
    click.echo(
        f"submission: {figures['n']} answers, {figures['answers']}, {figures['unanswered']} without a letter found"
    )


if __name__ == "__main__":
    main()
