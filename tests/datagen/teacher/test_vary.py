"""A variation is another question about the same, or a question of the same form about something else; always right."""

import pytest
from msgspec.structs import replace

from datagen.teacher import answer, sheets
from datagen.teacher.compose import compose
from datagen.teacher.forms import FORMS
from datagen.teacher.frames import FRAMES, split
from datagen.teacher.vary import VARIATIONS, Wish, vary
from schemas.faults import Fault
from schemas.record import LETTERS, Item
from tests.datagen.teacher.composed import TOPICS, composed


def a_wish(**changed: object) -> Wish:
    return replace(Wish("economy", "basic", "factual", "context_change", 0, True), **changed)


def an_item(**changed: object) -> Item:
    return replace(compose("economy", "basic", "factual", 1, full=True), **changed)


def the_answer(item: Item) -> str:
    return item.options[LETTERS.index(item.answer)]


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("variation", VARIATIONS)
def test_a_variation_is_right_and_not_the_question_it_was_made_of(topic: str, variation: str) -> None:
    for full in (True, False):
        for kind, difficulty, item in composed(topic, full=full, seeds=range(2)):
            found = vary(item, Wish(topic, difficulty, kind, variation, 0, full))

            right = answer.right(sheets.read(topic), answer.question(topic, found.question), found.options)
            assert [LETTERS[n] for n, one in enumerate(right) if one] == [found.answer]
            assert (found.question, the_answer(found)) != (item.question, the_answer(item))
            assert len(set(found.options)) == 4
            assert (found.adjustment is None) or full


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("variation", FRAMES)
def test_another_framing_keeps_the_solution(topic: str, variation: str) -> None:
    for kind, difficulty, item in composed(topic, full=False, seeds=range(2)):
        found = vary(item, Wish(topic, difficulty, kind, variation, 0, False))

        frame, question = split(found.question)
        assert frame in FRAMES[variation]
        assert question == item.question
        assert set(found.options) == set(item.options)
        assert the_answer(found) == the_answer(item)


@pytest.mark.parametrize(("kind", "difficulty"), FORMS)
def test_other_parameters_keep_the_form(kind: str, difficulty: str) -> None:
    for topic in TOPICS:
        item = compose(topic, difficulty, kind, 0, full=False)

        found = vary(item, Wish(topic, difficulty, kind, "parameter_change", 0, False))

        assert type(answer.question(topic, found.question)) is type(answer.question(topic, item.question))
        assert (found.steps, found.question) != (item.steps, item.question)


@pytest.mark.parametrize("variation", VARIATIONS)
def test_the_seed_draws_another_variation(variation: str) -> None:
    drawn = [vary(an_item(), a_wish(variation=variation, seed=seed)) for seed in range(5)]

    assert drawn[0] == vary(an_item(), a_wish(variation=variation, seed=0))
    assert len({(found.question, found.options) for found in drawn}) == 5


def test_a_variation_can_be_varied_again() -> None:
    first = vary(an_item(), a_wish(variation="practical_application"))

    again = vary(first, a_wish(variation="practical_application"))

    assert split(again.question)[1] == split(first.question)[1]
    assert split(again.question)[0] != split(first.question)[0]


@pytest.mark.parametrize("variation", VARIATIONS)
def test_what_it_does_not_know_is_refused(variation: str) -> None:
    with pytest.raises(Fault, match="knows no such question"):
        vary(an_item(question="谁最伟大？"), a_wish(variation=variation))
    with pytest.raises(Fault, match="finds 0 right options"):
        vary(an_item(options=("甲", "乙", "丙", "丁")), a_wish(variation=variation))
