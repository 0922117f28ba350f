"""Between simplified and traditional characters a text comes back as it was; other languages are refused."""

import pytest
from msgspec.structs import replace

from datagen.teacher.compose import compose
from datagen.teacher.translate import translate
from schemas.faults import Fault
from schemas.record import Item
from tests.datagen.teacher.composed import TOPICS, composed


def an_item(**changed: object) -> Item:
    return replace(compose("economy", "intermediate", "factual", 1, full=True), **changed)


@pytest.mark.parametrize("topic", TOPICS)
def test_there_and_back_is_the_same(topic: str) -> None:
    for _, _, item in composed(topic, full=True, seeds=range(2)):
        there = translate(item, "zh_hant")

        assert there.answer == item.answer
        assert there.reflection != item.reflection
        assert translate(there, "zh_hans") == item


def test_every_text_is_converted() -> None:
    found = translate(
        an_item(think="发", steps=("发", "头发"), reflection="发", adjustment="干", options=("国", "会", "经", "济")),
        "zh_hant",
    )

    assert (found.think, found.steps, found.reflection, found.adjustment) == ("發", ("發", "頭髮"), "發", "幹")
    assert found.options == ("國", "會", "經", "濟")


def test_no_adjustment_stays_none() -> None:
    assert translate(an_item(adjustment=None), "zh_hant").adjustment is None


def test_what_is_in_the_target_already_stays() -> None:
    assert translate(an_item(), "zh_hans") == an_item()


@pytest.mark.parametrize("target", ["en", "ja"])
def test_another_language_is_refused(target: str) -> None:
    with pytest.raises(Fault, match="writes Chinese only: it translates between 简 and 繁"):
        translate(an_item(), target)
