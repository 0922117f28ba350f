"""The README.md of a data set: a dataset card as the Hugging Face Hub reads it, so that the folder loads as it is.

Its words are in card.md; what a set is and what it counts, its stage says. The same set gives the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

CARD = Path(__file__).with_name("card.md")
CELL = str.maketrans({"|": "\\|", "\n": " ", "\r": " ", "<": "&lt;"})
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def text(
    title: str,
    about: str,
    files: Mapping[str, str],
    numbers: Mapping[str, object],
    settings: Mapping[str, object] = {},
    *,
    languages: Sequence[str] = ("zh",),
    tasks: Sequence[str] = ("question-answering", "text-generation"),
    rows: int | None = None,
) -> str:
    """Return the README.md: YAML front matter, then what `about` says and a section for each of `numbers`.

    `files` maps a split to its file, in the order they are shown; `settings` go to the loader (`sep`, `features`).
    A number stands by its name; a mapping is a table, whose heading names its columns (`Topic × type`): what is nested
    deepest goes across, all that is above it down. Without `rows` the size is left out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    front: dict[str, object] = {"pretty_name": title, "language": list(languages), "task_categories": list(tasks)}
    if rows is not None:
        front["size_categories"] = [next((name for most, name in SIZES if rows < most), "n>10M")]
    data_files = [{"split": split, "path": name} for split, name in files.items()]
    front["configs"] = [{"config_name": "default", "data_files": data_files, **settings}]
    # Words of a text are never markup here: a card is Markdown, and what a cell holds is escaped below.
    environment = Environment(
        loader=FileSystemLoader(CARD.parent),
        autoescape=False,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    return environment.get_template(CARD.name).render(
        front=_yaml(front),
        title=title,
        about=about.strip(),
        files=files,
        facts={name: _cell(value) for name, value in numbers.items() if not isinstance(value, Mapping)},
        tables={name: table(name, value) for name, value in numbers.items() if isinstance(value, Mapping) and value},
    )


def table(heading: str, value: Mapping[str, Any]) -> str:
    """Return a mapping of numbers, or one of such mappings, as a Markdown table."""
    found = list(_lines(value))
    deep = len(found[0][0])
    flat = not isinstance(found[0][1], Mapping)
    columns = [] if flat else list(dict.fromkeys(name for _, cells in found for name in cells))
    names = [name.strip() for name in heading.split("×")]
    head = [*(names[:deep] + [""] * (deep - len(names))), *(columns or [""])]
    lines = [head, ["---"] * deep + ["---:" if _is_number(found[0][1]) else "---"] * (len(head) - deep)]
    for labels, cells in found:
        lines.append([*labels, *([cells] if flat else [cells.get(name, 0) for name in columns])])
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _lines(value: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what stands before each line, and its cells: a mapping, or the one value of a table that is flat."""
    for name, under in value.items():
        inner = isinstance(under, Mapping) and any(isinstance(cell, Mapping) for cell in under.values())
        yield from _lines(under, (*above, name)) if inner else [((*above, name), under)]


def _is_number(cells: Any) -> bool:
    return all(isinstance(cell, (int, float)) for cell in (cells.values() if isinstance(cells, Mapping) else [cells]))


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).translate(CELL)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _yaml(value: Mapping[str, object]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None, read as a bool
    yaml.width = 4096
    out = StringIO()
    yaml.dump(value, out)
    return out.getvalue()
