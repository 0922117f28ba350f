"""What may have changed the bank between two versions: settings, prompts, fact sheets, imports, held tests, decisions,
code.

What a version was made with is in its dvc.lock, not in the files beside it: a setting that was changed and not run yet
explains nothing. A cause is told with the topics it is about and with how far it reaches: a setting that only stages
after the bank depend on can change scores, not records.
"""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec
from msgspec import Struct

from curate.auditing.revisions import Missing, Version, within
from schemas.faults import Fault

PARAMS = "params.yaml"
FACTS = "datagen/teacher/facts"
AGAIN = "datagen/again.jsonl"
DECISIONS = "curate/decisions.jsonl"
SHOWN = 40  # lines of a prompt or a fact sheet that are told
LONG = 160  # characters of such a line, or of a value
ABSENT = object()

Reach = Literal["bank", "scores", "nothing"]


class Cause(Struct, frozen=True):
    """One thing that differs between the versions."""

    kind: str
    """param, prompt, facts, imported, held, exam, decisions, again, code."""
    what: str
    """A dotted key, or a path."""
    before: str | None
    """A setting's value as JSON; None if it was not there, and for files."""
    after: str | None
    topics: tuple[str, ...] | None
    """It is about; None: all."""
    stages: tuple[str, ...]
    """That depend on it, those of one name for many topics as one."""
    reach: Reach
    """How far down the pipeline the first of them is: it may change the bank, only what comes after, or no data."""
    ran: bool
    """False: the version has it, but what it holds was made without it."""
    lines: tuple[str, ...] = ()
    """Of a prompt or a fact sheet those that went (-) and came (+)."""


class Line(Struct, frozen=True):
    """What tells the topic of a line of a list of requests."""

    topic: str = ""


def causes(a: Version, b: Version, bank: Iterable[str], decided: tuple[str, ...] | None) -> list[Cause]:
    """Return what differs, what reaches the bank first; `bank`: its files, `decided`: topics of changed decisions."""
    upstream = a.upstream(bank) | b.upstream(bank)
    found = [*_params(a, b, upstream), *_files(a, b, upstream, decided)]
    reaches = ("bank", "scores", "nothing")
    kinds = ("param", "facts", "prompt", "imported", "decisions", "again", "held", "exam", "code")
    return sorted(found, key=lambda one: (not one.ran, reaches.index(one.reach), kinds.index(one.kind), one.what))


# --- settings ------------------------------------------------------------------------------------------------------


def _params(a: Version, b: Version, upstream: set[str]) -> list[Cause]:
    made_a, made_b = _made(a, upstream), _made(b, upstream)
    settings_a, settings_b = _settings(a), _settings(b)
    found = []
    for key, before, after in _differences(_nested(made_a), _nested(made_b)):
        found.append(_param(key, before, after, _readers(a, key) | _readers(b, key), upstream, True))
    told = {one.what for one in found}
    for key, before, after in _differences(settings_a, settings_b):
        readers = _readers(b, key) | _readers(a, key)
        if key not in told and not any(key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in told):
            found.append(_param(key, before, after, readers, upstream, not readers))
    return found


def _param(key: str, before: Any, after: Any, readers: set[str], upstream: set[str], ran: bool) -> Cause:
    section, _, rest = key.partition(".")
    topics = (rest.partition(".")[0],) if section == "topics" and rest else None
    return Cause("param", key, _json(before), _json(after), topics, _grouped(readers), _reach(readers, upstream), ran)


def _made(version: Version, upstream: set[str]) -> dict[str, Any]:
    """Return the settings that the version's data was made with, by dotted key, as its stages recorded them.

    Where the bank's stages ran and others did not yet, the bank's count. What the lock still holds of a topic that is
    gone does not count where another stage knows the whole section.
    """
    held: dict[str, Any] = {}
    for _, stage in sorted(version.stages.items(), key=lambda named: named[0] in upstream):
        held |= stage.params.get(PARAMS, {})
    whole = {key for key in held if "." not in key}
    return {key: value for key, value in held.items() if key in whole or key.partition(".")[0] not in whole}


def _nested(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key as a tree."""
    tree: dict[str, Any] = {}
    for key, value in made.items():
        *above, last = key.split(".")
        place = tree
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return tree


def _settings(version: Version) -> dict[str, Any]:
    """Return the version's params.yaml, whatever is in it."""
    if not version.has(PARAMS):
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(version.read(PARAMS).decode())
    except (YAMLError, UnicodeDecodeError) as error:
        raise Fault(f"{PARAMS} of {version}: {' '.join(str(error).split())}; mend it") from None
    return found if isinstance(found, dict) else {}


def _differences(a: Any, b: Any, at: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Yield the dotted key, both values of what differs; what is in one tree alone is told as a whole."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from _differences(a.get(key, ABSENT), b.get(key, ABSENT), f"{at}.{key}" if at else str(key))
    elif a != b:
        yield at, a, b


def _readers(version: Version, key: str) -> set[str]:
    """Return the stages that depend on a setting, or on a part of it."""
    return {
        name
        for name, stage in version.stages.items()
        for held in stage.params.get(PARAMS, {})
        if f"{key}.".startswith(f"{held}.") or held.startswith(f"{key}.")
    }


def _json(value: Any) -> str | None:
    if value is ABSENT:
        return None
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= LONG else f"{text[:LONG]}…"


# --- files ---------------------------------------------------------------------------------------------------------


def _files(a: Version, b: Version, upstream: set[str], decided: tuple[str, ...] | None) -> list[Cause]:
    """Return the files under git that stages depend on and that differ."""
    readers: dict[str, set[str]] = defaultdict(set)
    for version in (a, b):
        written = set(version.outs)
        for name, stage in version.stages.items():
            for dep in stage.deps:
                if not any(within(dep.path, out) or within(out, dep.path) for out in written):
                    readers[dep.path].add(name)
    if not readers:
        return []
    tracked_a, tracked_b = a.tracked(readers), b.tracked(readers)
    known = set(_settings(a).get("topics") or ()) | set(_settings(b).get("topics") or ())
    found = []
    for path in sorted({*tracked_a, *tracked_b}):
        if tracked_a.get(path) == tracked_b.get(path):
            continue
        over = {dep: names for dep, names in readers.items() if within(path, dep)}
        names = set().union(*over.values())
        ran = any(_other(a, b, dep, names & upstream or names) for dep in over)
        kind = _kind(path, b)
        topics = _topics(kind, path, known, a, b, decided)
        lines = _lines(a, b, path) if kind in ("prompt", "facts") else ()
        found.append(Cause(kind, path, None, None, topics, _grouped(names), _reach(names, upstream), ran, lines))
    return found


def _other(a: Version, b: Version, dep: str, names: set[str]) -> bool:
    """Whether stages ran with other contents of a dependency in the two versions; yes, if one of them does not say."""
    hashes = [
        {found.md5 for name in names & set(version.stages) for found in version.stages[name].deps if found.path == dep}
        for version in (a, b)
    ]
    return not all(hashes) or hashes[0] != hashes[1]


def _kind(path: str, version: Version) -> str:
    held = (_settings(version).get("decontaminate") or {}).get("held") or "curate/held"
    known = {
        FACTS: "facts",
        "datagen/templates": "prompt",
        "curate/imported": "imported",
        held: "held",
        "curate/exam": "exam",
        DECISIONS: "decisions",
        AGAIN: "again",
    }
    return next((kind for folder, kind in known.items() if within(path, str(folder))), "code")


def _topics(
    kind: str, path: str, known: set[str], a: Version, b: Version, decided: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Return the topics that a file is about, None if all."""
    if kind == "facts" and PurePosixPath(path).stem in known:
        return (PurePosixPath(path).stem,)
    if kind == "imported" and (topic := PurePosixPath(path).name.partition(".")[0]) in known:
        return (topic,)
    if kind == "decisions":
        return decided
    if kind == "again":
        before, after = (Counter(_content(version, path).splitlines()) for version in (a, b))
        lines = (before - after) | (after - before)
        try:
            return tuple(sorted({msgspec.json.decode(line, type=Line).topic for line in lines}))
        except msgspec.DecodeError:
            return None
    return None


def _lines(a: Version, b: Version, path: str) -> tuple[str, ...]:
    before, after = (_content(version, path).decode(errors="replace").splitlines() for version in (a, b))
    compared = difflib.unified_diff(before, after, n=0, lineterm="")
    lines = [line for line in compared if not line.startswith(("---", "+++", "@@"))]
    more = (f"… {len(lines) - SHOWN:,} more lines",) if len(lines) > SHOWN else ()
    return (*(line if len(line) <= LONG else f"{line[:LONG]}…" for line in lines[:SHOWN]), *more)


def _content(version: Version, path: str) -> bytes:
    try:
        return version.read(path)
    except Missing:
        return b""


# --- the graph -----------------------------------------------------------------------------------------------------


def _reach(readers: set[str], upstream: set[str]) -> Reach:
    return "bank" if readers & upstream else "scores" if readers else "nothing"


def _grouped(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of stages, those made by one for many keys as one."""
    return tuple(sorted({name.partition("@")[0] for name in names}))
