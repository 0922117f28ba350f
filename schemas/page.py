"""One HTML page that opens with no network: tables to sort and filter, plots, records before and after.

A page is said in the frozen types below and drawn by page.html beside this file, which holds the style and the one
small script; without the script all of it can be read. Texts come from models and are never markup: what is shown is
escaped, and the policy in the page's head allows no style and no script but its own, and nothing from elsewhere.
The same parts give the same bytes.
"""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from msgspec import Struct

from schemas.changes import Run, changes
from schemas.plot import NONE, Bars, Lines, bars, finite, lines

__all__ = [
    "SCRIPT",
    "STYLE",
    "Bars",
    "Cell",
    "Details",
    "Diff",
    "Facts",
    "Lines",
    "Part",
    "Run",
    "Section",
    "Table",
    "Words",
    "changes",
    "page",
]

Cell = str | int | float | None
"""What a table holds; None is shown as –."""


class Table(Struct, frozen=True):
    """A table that is sorted by a click on a heading, with a box to filter it by when it has more than 8 rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    formats: tuple[str, ...] = ()
    """For each column how its numbers are written (`{:,}`, `{:.1%}`); empty or missing: a float as %.4g."""
    note: str = ""
    heat: tuple[int, ...] = ()
    """The columns whose numbers are shaded by their size, each against its own largest."""


class Facts(Struct, frozen=True):
    """Tiles: a label, a value, and in small print how it changed or what it is out of."""

    facts: tuple[tuple[str, str, str], ...]


class Words(Struct, frozen=True):
    """Paragraphs of plain text."""

    paragraphs: tuple[str, ...]


class Diff(Struct, frozen=True):
    """A record before and after, field by field, with what changed in each marked."""

    title: str
    about: str
    fields: tuple[tuple[str, str | None, str | None], ...]
    """Name, before and after; None: not there. Equal ones are shown once."""


class Details(Struct, frozen=True):
    """Parts folded under a line."""

    summary: str
    parts: tuple["Part", ...]


Part = Table | Bars | Lines | Facts | Words | Diff | Details


class Section(Struct, frozen=True):
    """Parts under a heading that the table of contents names."""

    title: str
    parts: tuple[Part, ...]


TEMPLATE = Path(__file__).with_name("page.html")
SOURCE = TEMPLATE.read_text(encoding="utf-8")
STYLE = SOURCE.partition("<style>")[2].partition("</style>")[0]
"""The style of pages, for other pages to share: colours are custom properties, light and dark by what is preferred."""
SCRIPT = SOURCE.partition("<script>")[2].partition("</script>")[0]
"""What sorts and filters the tables of pages."""

UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
LONG = 24
"""Characters, beyond which a cell is broken into lines."""
SHADES = 6
"""Shades of a colour, for cells."""
STRETCH, AROUND = 120, 40
"""Characters of an unchanged stretch, beyond which its middle is folded, and of it what stays at either end."""
WHOLE = 600
"""Characters of an unchanged field, beyond which it is folded."""


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """Return a whole HTML document with a table of contents.

    What cannot stand in a document (a control character, half of a surrogate pair) becomes U+FFFD.
    """
    text = _template().render(
        title=title,
        about=about,
        sections=[(section.title, _views(section.parts)) for section in sections],
        style_hash=_hash(STYLE),
        script_hash=_hash(SCRIPT),
    )
    return UNPRINTABLE.sub("\ufffd", text)


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(SOURCE)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _views(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return what the template is to print of parts, with plots that follow one another in pairs beside each other."""
    views: list[dict[str, Any]] = []
    for plots, group in groupby(map(_view, parts), lambda view: "about" in view and "legend" in view):
        found = list(group)
        paired = len(found) // 2 * 2 if plots else 0
        views += [view | {"half": n < paired} for n, view in enumerate(found)]
    return views


def _view(part: Part) -> dict[str, Any]:
    """Return what the template is to print of a part, under the name of its macro."""
    match part:
        case Table():
            return _table(part)
        case Bars():
            return {"kind": "bars", **bars(part)}
        case Lines():
            return {"kind": "lines", **lines(part)}
        case Facts():
            return {"kind": "facts", "facts": part.facts}
        case Words():
            return {"kind": "words", "paragraphs": part.paragraphs}
        case Diff():
            fields = [_field(*field) for field in part.fields]
            return {"kind": "diff", "title": part.title, "about": part.about, "fields": fields}
        case Details():
            return {"kind": "details", "summary": part.summary, "parts": _views(part.parts)}


def _table(table: Table) -> dict[str, Any]:
    across = range(len(table.columns))
    numeric = [_is_numeric(row[n] for row in table.rows) for n in across]
    most = {n: max((abs(cell) for row in table.rows if finite(cell := row[n])), default=0) for n in table.heat}
    formats = [*table.formats, *[""] * (len(table.columns) - len(table.formats))]
    rows = []
    for row in table.rows:
        cells = []
        for n in across:
            value, text = row[n], _cell(row[n], formats[n])
            classes = ["n"] if numeric[n] else ["long"] if len(text) > LONG else []
            if most.get(n) and finite(value):
                classes.append(_shade(value / most[n]))
            cells.append((text, " ".join(classes), _key(value, text) if numeric[n] else ""))
        rows.append(cells)
    columns = [(name, "n" if numeric[n] else "") for n, name in enumerate(table.columns)]
    return {"kind": "table", "caption": table.caption, "columns": columns, "rows": rows, "note": table.note}


def _is_numeric(cells: Iterable[Cell]) -> bool:
    found = [cell for cell in cells if cell is not None]
    return bool(found) and all(isinstance(cell, (int, float)) for cell in found)


def _cell(value: Cell, form: str) -> str:
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if form:
        return form.format(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _key(value: Cell, text: str) -> str:
    """Return the number that the script is to sort by, unless the text says it already."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if not isinstance(value, (int, float)) or value != value:
        return ""
    key = str(int(value)) if isinstance(value, int) else repr(value)
    return "" if key == text else key


def _shade(share: float) -> str:
    """Return the class for a share of the largest, -1 to 1: `h1` is pale and `h6` full, `l1` to `l6` below zero."""
    step = math.ceil(abs(share) * SHADES)
    return f"{'h' if share > 0 else 'l'}{step}" if step else "h0"


def _field(name: str, before: str | None, after: str | None) -> dict[str, Any]:
    if before == after:
        text = NONE if before is None else before
        fold = text[:AROUND].rstrip() + "…" if len(text) > WHOLE else ""
        return {"name": name, "how": "same", "runs": [("=", text)], "fold": fold, "size": len(text)}
    how = "added" if before is None else "removed" if after is None else "changed"
    runs = changes(before or "", after or "")
    return {"name": name, "how": how, "runs": list(_folded(runs)), "fold": "", "size": 0}


def _folded(runs: Sequence[Run]) -> Iterator[Run]:
    """Yield the runs with `…` and how many characters it stands for in the middle of each long equal one."""
    for n, (kind, text) in enumerate(runs):
        if kind != "=" or len(text) <= STRETCH:
            yield kind, text
            continue
        head = "" if n == 0 else text[:AROUND]
        tail = "" if n == len(runs) - 1 else text[-AROUND:]
        yield "=", head
        yield "…", f"{len(text) - len(head) - len(tail):,} characters as before"
        yield "=", tail
