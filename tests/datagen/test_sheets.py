"""The fact sheets hold what the composer relies on, and a sheet that does not is refused with one line."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from datagen.teacher import sheets
from datagen.teacher.mathematics.compose import TOPICS as MATHEMATICS
from schemas import params
from schemas.faults import Fault

TOPICS = sorted(set(params.topics()) - set(MATHEMATICS))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_configured_topic_but_mathematics_has_a_sheet_of_enough_sourced_facts(topic: str) -> None:
    sheet = sheets.read(topic)

    assert sum(1 for _ in sheet.facts()) >= 25
    assert all(entity.source for group in sheet.classes.values() for entity in group.entities)


@pytest.mark.parametrize("topic", TOPICS)
def test_no_option_could_be_read_in_two_ways(topic: str) -> None:
    for group in sheets.read(topic).classes.values():
        for key, attribute in group.attributes.items():
            values = {entity.values[key] for entity in group.entities}
            if attribute.kind != "year":
                assert not [(a, b) for a in values for b in values if a != b and a in b]
            assert all(v.strip() == v and not set(v) & set("<>&（）ABCD") for v in values)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_meaning_does_not_give_its_concept_away(topic: str) -> None:
    for group, entity, key in sheets.read(topic).facts():
        if group.attributes[key].kind == "meaning":
            assert entity.name not in entity.values[key]


def test_a_year_before_our_era_is_written_as_such() -> None:
    assert sheets.year_text(-221) == "公元前221年"
    assert sheets.year_text(1949) == "1949年"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s["classes"]["body"]["entities"][0].pop("seat"), "must have exactly"),
        (lambda s: s["classes"]["body"]["entities"][0].update(source="hearsay"), "not listed under 'sources'"),
        (lambda s: s["classes"]["body"]["entities"][0].update(founded="1972"), "written as an integer"),
        (lambda s: s["classes"]["body"]["entities"][1].update(name="联合国环境规划署"), "named 2 times"),
        (lambda s: s["classes"]["body"]["entities"][1].update(name="规划署"), "is contained in"),
        (lambda s: s["classes"]["body"].update(entities=s["classes"]["body"]["entities"][:3]), "3 entities"),
        (lambda s: s["classes"]["body"]["attributes"]["seat"].update(ask="总部设在哪里？"), "must hold {e} once"),
        (lambda s: s["classes"]["body"]["attributes"]["seat"].update(state="总部设在{v}"), "must begin with {e}"),
        (lambda s: s["classes"]["concept"]["attributes"]["treaty"].update(to="treaties"), "no class 'treaties'"),
        (lambda s: s["classes"]["concept"]["entities"][0].update(treaty="《京都议定书》"), "is no entity of treaty"),
        (lambda s: s.update(topic="economy"), "must be the file's name"),
        (lambda s: s.update(author="me"), "unknown field `author`"),
    ],
)
def test_a_sheet_that_could_mislead_is_refused(tmp_path: Path, change, fault: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    sheet = yaml.load((sheets.FACTS / "environment.yaml").read_text(encoding="utf-8"))
    change(sheet)
    with (tmp_path / "environment.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(sheet, file)

    with pytest.raises(Fault, match=fault):
        sheets.read("environment", tmp_path)


def test_a_topic_without_a_sheet_says_what_to_do() -> None:
    with pytest.raises(Fault, match="no fact sheet for topic 'astrology'; write one"):
        sheets.read("astrology")
