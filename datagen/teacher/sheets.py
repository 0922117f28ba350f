"""Fact sheets: what the embedded teacher knows.

A sheet (`facts/TOPIC.yaml`) holds classes of entities. Every entity of a class has a value for every attribute of the
class, so a question about one entity finds its distractors among the others. `read` refuses a sheet from which a
question with two right answers could be composed.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from schemas.faults import Fault

FACTS = Path(__file__).with_name("facts")
MIN_FACTS = 25
MIN_ENTITIES = 6
MIN_VALUES = 4  # one right option and three distractors


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A single-valued property of the entities of one class."""

    name: str
    """A noun: 《巴黎协定》的「通过年份」."""
    kind: str
    """What the values are: `year` (integers, negative before our era), `meaning` (a definition), or any other word."""
    ask: str
    """A question with {e}: `{e}是在哪一年通过的？`."""
    state: str
    """A statement that begins with {e} and holds {v}: `{e}于{v}通过`."""
    to: str | None = None
    """For a relation: the class whose entities are the values."""

    def tell(self, name: str, value: str) -> str:
        """State that the entity of this name has this value."""
        return self.state.format(e=name, v=value)


class Entity(msgspec.Struct, frozen=True):
    """A thing the sheet tells of."""

    name: str
    values: dict[str, str]
    """Attribute key to value, as it is written in a question: a year as `2015年` or `公元前221年`."""
    years: dict[str, int]
    """Attribute key to year, for attributes of kind `year`."""
    source: str


class Class(msgspec.Struct, frozen=True):
    """Entities of one sort, which may stand beside each other as options."""

    key: str
    noun: str
    attributes: dict[str, Attribute]
    entities: tuple[Entity, ...]

    def entity(self, name: str) -> Entity:
        """Return the entity of this name; KeyError if there is none."""
        for entity in self.entities:
            if entity.name == name:
                return entity
        raise KeyError(name)

    def having(self, key: str, value: str) -> list[Entity]:
        """Return the entities that have this value of an attribute, in file order."""
        return [entity for entity in self.entities if entity.values[key] == value]


class Sheet(msgspec.Struct, frozen=True):
    """All the facts of one topic."""

    topic: str
    classes: dict[str, Class]

    def facts(self) -> Iterator[tuple[Class, Entity, str]]:
        """Yield (class, entity, attribute key) for each fact, in file order."""
        for group in self.classes.values():
            for entity in group.entities:
                for key in group.attributes:
                    yield group, entity, key


class _ClassFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    noun: str
    attributes: dict[str, Attribute]
    entities: list[dict[str, str | int]]


class _SheetFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topic: str
    sources: dict[str, str]
    classes: dict[str, _ClassFile]


def year_text(year: int) -> str:
    """Write a year as Chinese text does."""
    return f"{year}年" if year > 0 else f"公元前{-year}年"


@cache
def read(topic: str, folder: Path = FACTS) -> Sheet:
    """Return the sheet of a topic; Fault if it is missing, misshapen or ambiguous."""
    path = folder / f"{topic}.yaml"
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        file = msgspec.convert(raw, _SheetFile)
    except FileNotFoundError:
        raise Fault(
            f"{path}: no fact sheet for topic '{topic}'; write one, or use a real endpoint for this topic"
        ) from None
    except (YAMLError, msgspec.ValidationError) as error:
        raise Fault(f"{path}: {' '.join(str(error).split())}") from None
    sheet = Sheet(
        topic=file.topic,
        classes={
            key: Class(
                key=key,
                noun=group.noun,
                attributes=group.attributes,
                entities=tuple(_entity(path, file, key, raw_entity) for raw_entity in group.entities),
            )
            for key, group in file.classes.items()
        },
    )
    for fault in _faults(sheet, topic):
        raise Fault(f"{path}: {fault}")
    return sheet


def _entity(path: Path, file: _SheetFile, key: str, raw: dict[str, str | int]) -> Entity:
    attributes = file.classes[key].attributes
    where = f"{path}: {key}: {raw.get('name', raw)}"
    expected = {"name", "source", *attributes}
    if set(raw) != expected:
        raise Fault(f"{where}: has {sorted(raw)}, must have exactly {sorted(expected)}")
    if raw["source"] not in file.sources:
        raise Fault(f"{where}: source '{raw['source']}' is not listed under 'sources'")
    values: dict[str, str] = {}
    years: dict[str, int] = {}
    for name, attribute in attributes.items():
        value = raw[name]
        if (attribute.kind == "year") != isinstance(value, int):
            raise Fault(f"{where}: {name}: a year is written as an integer, any other value as text")
        if isinstance(value, int):
            years[name] = value
            value = year_text(value)
        values[name] = value
    return Entity(name=str(raw["name"]), values=values, years=years, source=file.sources[str(raw["source"])])


def _faults(sheet: Sheet, topic: str) -> Iterator[str]:
    """Say what would let a question go wrong, or leave a kind of question without material."""
    if sheet.topic != topic:
        yield f"topic is '{sheet.topic}', must be the file's name"
    if (count := sum(1 for _ in sheet.facts())) < MIN_FACTS:
        yield f"{count} facts, must be at least {MIN_FACTS}"
    names = [entity.name for group in sheet.classes.values() for entity in group.entities]
    yield from (f"{name}: named {n} times" for name, n in Counter(names).items() if n > 1)
    yield from _contained("name", names)
    for group in sheet.classes.values():
        where = f"classes.{group.key}"
        if len(group.entities) < MIN_ENTITIES:
            yield f"{where}: {len(group.entities)} entities, must be at least {MIN_ENTITIES}"
        for key, attribute in group.attributes.items():
            if attribute.ask.count("{e}") != 1:
                yield f"{where}.{key}.ask: must hold {{e}} once"
            if not attribute.state.startswith("{e}") or attribute.state.count("{v}") != 1:
                yield f"{where}.{key}.state: must begin with {{e}} and hold {{v}} once"
            values = {entity.values[key] for entity in group.entities}
            if len(values) < MIN_VALUES:
                yield f"{where}.{key}: {len(values)} different values, must be at least {MIN_VALUES}"
            if attribute.kind != "year":
                yield from _contained(f"{where}.{key}", sorted(values))
            if attribute.kind == "meaning" and len(values) < len(group.entities):
                yield f"{where}.{key}: two entities share a meaning"
            if attribute.to is not None:
                if attribute.to not in sheet.classes:
                    yield f"{where}.{key}.to: no class '{attribute.to}'"
                    continue
                known = {entity.name for entity in sheet.classes[attribute.to].entities}
                yield from (f"{where}.{key}: '{value}' is no entity of {attribute.to}" for value in values - known)
    attributes = [(group, a) for group in sheet.classes.values() for a in group.attributes.values()]
    if not any(a.kind == "meaning" for _, a in attributes):
        yield "no class has an attribute of kind 'meaning'; conceptual questions need one"
    if not any(a.kind == "year" for _, a in attributes):
        yield "no class has an attribute of kind 'year'; comparative questions need one"
    if not any(a.to is not None for _, a in attributes):
        yield "no class has a relation ('to'); analytical questions need one"


def _contained(where: str, texts: list[str]) -> Iterator[str]:
    """Two texts of which one holds the other could be mistaken for each other as options."""
    for short in texts:
        for long in texts:
            if short != long and short in long:
                yield f"{where}: '{short}' is contained in '{long}'"
