"""A user's own test file, which takes the place of the test that `split` would hold out.

curate/exam/FILE.csv (or .tsv) → its questions. `decontaminate` keeps them out of the bank, `split` then holds out no
test of its own, `convert` writes them as the test set, and those that have an answer as its key.
"""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from curate import foreign, tsv
from schemas.faults import Fault
from schemas.record import LETTERS, Letter, Options

COLUMNS = ("id", "question", *(f"option_{letter}" for letter in LETTERS))
OPTIONAL = ("answer", "topic", "difficulty", "type")
FORMS = {".csv": ",", ".tsv": "\t"}


class Question(Struct, frozen=True):
    """A question of the test file."""

    line: int
    """Where it begins."""
    id: str
    question: str
    options: Options
    answer: Letter | None
    topic: str
    """Empty if it names none, as are difficulty and type."""
    difficulty: str
    type: str


def find(folder: Path | None) -> Path | None:
    """Return the test file of a folder, None if it has none; Fault for several, or one that is no table."""
    files = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    # What git and DVC keep beside it is no test.
    found = [path for path in files if path.name != "README.md" and path.name[0] != "." and path.suffix != ".dvc"]
    if len(found) > 1:
        raise Fault(f"{found[1]}: a second file beside {found[0].name}; the test is one file, take the other out")
    for path in found:
        if path.suffix.lower() not in FORMS:
            raise Fault(f"{path}: none of {', '.join(FORMS)}; save the test as one of them")
    return found[0] if found else None


def read(path: Path) -> list[Question]:
    """Return the questions of a test file in its order; Fault with the line for what is wrong."""
    found: dict[str, Question] = {}
    for question in _questions(path):
        first = found.setdefault(question.id, question)
        if first is not question:
            raise Fault(
                f"{path}:{question.line}: id '{question.id}' is that of line {first.line} too; give every row its own"
            )
    return list(found.values())


def _questions(path: Path) -> Iterator[Question]:
    separator = FORMS[path.suffix.lower()]
    for line in tsv.read(path, foreign.lines(path), separator, COLUMNS, OPTIONAL):
        at, fields = f"{path}:{line.number}", line.fields
        for column in COLUMNS:
            if not fields[column].strip():
                raise Fault(f"{at}: {column} is empty; write it")
        a, b, c, d = options = tuple(fields[f"option_{letter}"] for letter in LETTERS)
        first: dict[str, Letter] = {}
        for letter, option in zip(LETTERS, options, strict=True):
            if (other := first.setdefault(option.strip(), letter)) != letter:
                raise Fault(f"{at}: option_{other} and option_{letter} are both '{option.strip()}'; make them differ")
        said = fields.get("answer", "").strip()
        if said and said not in LETTERS:
            raise Fault(f"{at}: answer is '{said}'; write one of {', '.join(LETTERS)}, or none")
        yield Question(
            line=line.number,
            id=fields["id"],
            question=fields["question"],
            options=(a, b, c, d),
            answer=LETTERS["ABCD".index(said)] if said else None,
            topic=fields.get("topic", "").strip(),
            difficulty=fields.get("difficulty", "").strip(),
            type=fields.get("type", "").strip(),
        )
