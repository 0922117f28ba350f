"""params.yaml: every value of the pipeline, read once by each stage into a frozen, closed type without defaults."""

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from schemas.faults import Fault
from schemas.record import Variation

SECTIONS = (
    "topics",
    "difficulties",
    "types",
    "teachers",
    "limits",
    "budget",
    "prices",
    "workers",
    "generate",
    "validate",
    "dedup",
    "decontaminate",
    "verify",
    "judge",
    "improve",
    "vary",
    "contrast",
    "translate",
    "review",
    "gate",
    "balance",
    "split",
    "prompts",
    "convert",
    "mix",
    "base",
    "sft",
    "attempt",
    "pairs",
    "dpo",
    "grpo",
    "predict",
    "score",
    "authors",
    "author_base",
    "author_sft",
    "author_grpo",
    "author_distill",
    "author_report",
)
SLUG = re.compile(r"[a-z][a-z0-9_]{0,39}")

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]

T = TypeVar("T")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section of params.yaml. No field has a default: a default in code is a value DVC cannot see."""


class Topic(Params, frozen=True):
    """One topic of the grid."""

    name: str
    samples: Count
    """Questions per cell (difficulty × type); 0 asks for none, and the topic has what was imported."""
    round: Count
    """Raised to ask anew for this topic alone; part of every request's key."""


class Wording(Params, frozen=True):
    """A difficulty or a question type: its name and how a prompt explains it."""

    name: str
    means: str


class ChatPrompt(Params, frozen=True):
    """How a question is put to the solver; {question} and {options} are filled in."""

    system: str
    user: str
    option: str
    """One option's line, with {letter} and {text}."""


class AuthorPrompt(Params, frozen=True):
    """How the author is told what to write; {topic}, {difficulty} and {type} are filled in with their names."""

    system: str
    write: str
    vary: str
    """Also {variation}, a value of `variations`, and {item}, the original."""
    variations: dict[str, str]
    """context_change, parameter_change and practical_application, each in words."""
    improve: str
    """Also {item} and {feedback}."""


class AboutParams(Params, frozen=True):
    """Who is asked about how many records."""

    teacher: str
    """A key of `teachers`."""
    rows: Count | None
    """How many records; all if null, and if 0 none, so that no teacher is asked."""
    reasks: Count
    """Times a bad reply is asked again with its error."""
    min_yield: Share
    """Share of valid replies below which the stage fails."""


class JudgeParams(AboutParams, frozen=True):
    """Who judges how many records."""


class ImproveParams(AboutParams, frozen=True):
    """Who rewrites which records, and how."""

    below: Annotated[float, Meta(ge=1, le=6)]
    """The mean of the five marks below which a record is rewritten; above 5, every judged one is."""
    chain: Literal["full", "short"]


class VaryParams(AboutParams, frozen=True):
    """Who varies how many records, and how."""

    variations: Annotated[tuple[Variation, ...], Meta(min_length=1)]
    """One request each."""
    chain: Literal["full", "short"]


def load(section: str, type_: type[T], path: Path | str = "params.yaml") -> T:
    """Return a section, dotted for a part of one (`topics.economy`), as a frozen value; Fault if anything is off."""
    document = _document(Path(path))
    value: Any = document
    walked: list[str] = []
    for key in section.split("."):
        walked.append(key)
        if not isinstance(value, dict) or key not in value:
            near = difflib.get_close_matches(key, [str(k) for k in value] if isinstance(value, dict) else [], 1)
            hint = f"; did you mean '{near[0]}'?" if near else "; add it"
            raise Fault(f"{path}: {'.'.join(walked)}: Field required{hint}")
        value = value[key]
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `")
        tail = where.rstrip("`").removeprefix("$").removeprefix("key in ").replace("[...]", ".*")
        raise Fault(f"{path}: {section}{tail}: {what}") from None


def topics(path: Path | str = "params.yaml") -> dict[str, Topic]:
    """Return the configured topics by slug; Fault for a slug that could leave its folder or reach a shell."""
    found = load("topics", dict[str, Topic], path)
    for slug in found:
        if not SLUG.fullmatch(slug):
            raise Fault(
                f"{path}: topics.{slug}: a slug becomes a file name and part of a command, so it must match "
                f"{SLUG.pattern} (at most 40 of a-z, 0-9 and _); put the name under 'name'"
            )
    return found


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """Return a hint for a name that is not known: those it resembles, or all there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 3)
    return f"did you mean {' or '.join(near)}?" if near else f"the {what} are {', '.join(names)}"


def _document(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise Fault(f"{path}: {error.strerror}; run the command from the project's root") from None
    except UnicodeDecodeError as error:
        raise Fault(f"{path}: {error}") from None


@lru_cache(maxsize=1)
def _parsed(text: str, path: Path) -> dict[str, Any]:
    """Read YAML 1.2 (in 1.1, PyYAML's, 2e-5 is a string) and refuse sections nobody reads.

    Kept, since a command reads several sections and the parser takes its time.
    """
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise Fault(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise Fault(f"{path}: must be a mapping of sections")
    for key in document:
        if key not in SECTIONS:
            near = difflib.get_close_matches(str(key), SECTIONS, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"the sections are {', '.join(SECTIONS)}"
            raise Fault(f"{path}: {key}: unknown section; {hint}")
    return document
