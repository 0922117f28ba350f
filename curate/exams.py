"""Questions of test files, read in the layouts that they are published in (curate/held/README.md lists them).

Answers are not read, and columns beside question and options are passed over. What cannot be read is a Fault with its
line: a test that is skipped in silence is a test that the bank may hold.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from schemas.faults import Fault

STEMS = ("question", "prompt")
LISTS = ("options", "choices")
KNOWN = (
    "the known layouts are C-Eval (id, question, A, B, C, D), CMMLU (Question, A, B, C, D, Answer), "
    "our own (question, option_A to option_D), Kaggle (prompt, A to E) and JSON with question and options or choices"
)
OPTION = re.compile(r"(?:option_)?([a-z])")


class Question(Struct, frozen=True):
    """A question of a test file."""

    file: str
    line: int
    """Where it begins; in a Parquet file, its row."""
    question: str
    options: tuple[str, ...]


def exams(held: Path) -> list[Question]:
    """Return the questions of a test file, or of all in a folder in the order of their names."""
    if not held.exists():
        raise Fault(f"{held}: no such file or folder; name one in params.yaml, decontaminate.held")
    files = [held] if held.is_file() else sorted(path for path in held.rglob("*") if path.is_file())
    return [question for path in files if held.is_file() or not _skipped(path, held) for question in read(path)]


def read(path: Path) -> Iterator[Question]:
    """Yield the questions of a test file; Fault with the line for what cannot be read."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise Fault(f"{path}: a test file ends in {', '.join(READERS)}; convert it, or take it out")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; name a file that can be read") from None
    for line, fields in reader(path, data):
        yield _question(path, line, fields)


def _skipped(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return parts[-1] == "README.md" or any(part.startswith(".") for part in parts)


def _question(path: Path, line: int, fields: Mapping[str, Any]) -> Question:
    """Return the question that a row holds, whatever its layout."""
    at = f"{path}:{line}"
    lowered = {name.strip().lower(): value for name, value in fields.items()}
    stem = next((name for name in STEMS if name in lowered), None)
    if stem is None:
        raise Fault(f"{at}: no question among {', '.join(map(repr, fields)) or 'no fields'}; {KNOWN}")
    texts = next((_listed(lowered[name]) for name in LISTS if name in lowered), None)
    if texts is None:
        texts = [value for name, value in sorted(lowered.items()) if OPTION.fullmatch(name)]
    if not texts:
        raise Fault(f"{at}: no options among {', '.join(map(repr, fields))}; {KNOWN}")
    question, *options = (_text(at, value) for value in (lowered[stem], *texts))
    if not question:
        raise Fault(f"{at}: the question is empty; write it, or take the row out")
    options = [option for option in options if option]
    if len(options) < 2:
        raise Fault(f"{at}: {len(options)} options; write at least two, or take the row out")
    return Question(str(path), line, question, tuple(options))


def _listed(value: Any) -> list[Any] | None:
    """Return options that are a list, texts by letter, or the texts beside their labels."""
    if isinstance(value, dict):
        value = value["text"] if "text" in value else [value[letter] for letter in sorted(value)]
    return value if isinstance(value, list) else None


def _text(at: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise Fault(f"{at}: {value!r:.60} stands where a text should; {KNOWN}")
    return "" if value is None else str(value).strip()


def _table(separator: str) -> "Reader":
    def read_table(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, str]]]:
        rows = csv.reader(io.StringIO(_decoded(path, data), newline=""), delimiter=separator, strict=True)
        header: list[str] | None = None
        line = 1
        try:
            for cells in rows:
                if header is None:
                    header = cells
                    _check(path, header)
                elif cells and len(cells) != len(header):
                    raise Fault(
                        f"{path}:{line}: {len(cells)} columns, the first line has {len(header)}; "
                        "quote a text that holds a separator, a quote or a line end"
                    )
                elif cells:
                    yield line, dict(zip(header, cells, strict=True))
                line = rows.line_num + 1
        except csv.Error as error:
            raise Fault(f"{path}:{line}: {error}; quote the text, and double each quote inside it") from None
        if header is None:
            raise Fault(f"{path}:1: the file is empty; {KNOWN}")

    return read_table


def _check(path: Path, header: list[str]) -> None:
    """Raise a Fault for a first line that names no layout, even if no row follows."""
    names = [name.strip().lower() for name in header]
    if not {*STEMS} & {*names} or not any(map(OPTION.fullmatch, names)):
        raise Fault(f"{path}:1: the columns are {', '.join(map(repr, header))}; {KNOWN}")
    for name in names:
        if names.count(name) > 1 and (name in STEMS or OPTION.fullmatch(name)):
            raise Fault(f"{path}:1: column '{name}' stands twice; keep one")


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(_decoded(path, data).split("\n"), 1):
        if text.strip():
            yield line, _object(path, line, text)


def _list(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    data = _decoded(path, data).encode()
    try:
        rows = msgspec.json.decode(data, type=list[Raw])
    except msgspec.DecodeError as error:
        raise Fault(f"{path}:1: {error}; a .json file is one list of objects") from None
    at = 0
    for row in rows:
        at = data.index(bytes(row), at)
        line = data.count(b"\n", 0, at) + 1
        yield line, _object(path, line, bytes(row))
        at += len(bytes(row))


def _object(path: Path, line: int, text: str | bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Fault(f"{path}:{line}: {error}; a question is a JSON object") from None


def _parquet(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise Fault(f"{path}:1: {' '.join(str(error).split())[:200]}; write the file anew") from None
    yield from enumerate(table.to_pylist(), 1)


def _decoded(path: Path, data: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "ignore").count("\n") + 1
        wrong = f"byte 0x{data[error.start]:02x} is not {encoding.removesuffix('-sig').upper()}"
        raise Fault(f"{path}:{line}: {wrong}; save the file as UTF-8") from None


Reader = Callable[[Path, bytes], Iterator[tuple[int, Mapping[str, Any]]]]

READERS: dict[str, Reader] = {
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".jsonl": _lines,
    ".json": _list,
    ".parquet": _parquet,
}
