"""A contrast keeps the question; a wrong one is well argued by what is not so, a biased one is right and one-sided."""

import pytest
from msgspec.structs import replace

from datagen.teacher import answer, sheets
from datagen.teacher.compose import compose
from datagen.teacher.contrast import CONTRASTS, contrast
from datagen.teacher.review import judge
from schemas import params
from schemas.faults import Fault
from schemas.record import Item
from tests.datagen.teacher.composed import TOPICS, composed

ABSOLUTES = ("绝对正确", "毫无疑问", "不容置疑")


def an_item(**changed: object) -> Item:
    return replace(compose("economy", "basic", "factual", 1, full=True), **changed)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("how", CONTRASTS)
def test_the_question_and_its_options_stay_and_the_chain_does_not(topic: str, how: str) -> None:
    for full in (True, False):
        for _, _, item in composed(topic, full=full, seeds=range(3)):
            found = contrast(topic, item, how, 0, full=full)

            assert (found.question, found.options) == (item.question, item.options)
            assert found.steps != item.steps
            assert len(found.steps) == len(item.steps)
            assert (found.answer == item.answer) is (how == "biased")


@pytest.mark.parametrize("topic", TOPICS)
def test_a_wrong_chain_comes_to_its_answer_by_evidence_that_does_not_hold(topic: str) -> None:
    claims = answer.claims(topic)
    classes = sheets.read(topic).classes

    for kind, _, item in composed(topic, full=True, seeds=range(6)):
        found = contrast(topic, item, "wrong", 0, full=True)

        evidence = [step[5:].rstrip("。") for step in found.steps if step.startswith("列出依据：")]
        stated = [
            claim for text, claim in claims.items() for given in evidence if given.endswith(text) or text in given
        ]
        held = [classes[c.group].entity(c.entity).values[c.key] == c.said for c in stated]
        assert stated
        assert not all(held), f"{kind}: {evidence}"
        assert found.steps[-1].endswith(f"因此选{found.answer}。")
        accepted = [step[4] for step in found.steps if step.startswith("核对选项") and "，不符合题意" not in step]
        assert accepted == [found.answer]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_short_wrong_chain_concludes_with_its_letter_too(topic: str) -> None:
    for _, _, item in composed(topic, full=False, seeds=range(3)):
        found = contrast(topic, item, "wrong", 0, full=False)

        assert found.steps[-1].endswith(f"（{found.answer}）")


def test_the_seed_draws_which_wrong_option_is_argued_for() -> None:
    drawn = [contrast("economy", an_item(), "wrong", seed, full=True) for seed in range(20)]

    assert drawn[0] == contrast("economy", an_item(), "wrong", 0, full=True)
    assert {found.answer for found in drawn} == {"A", "B", "D"}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_biased_chain_arrives_at_the_right_answer_without_neutrality(topic: str) -> None:
    for full in (True, False):
        for _, difficulty, item in composed(topic, full=full, seeds=range(3)):
            found = contrast(topic, item, "biased", 0, full=full)

            chain = "\n".join((found.think, *found.steps, found.reflection))
            assert any(word in chain for word in ABSOLUTES)
            assert "用词绝对，有失中立" in judge(topic, difficulty, found).feedback
            assert judge(topic, difficulty, found).mean() < judge(topic, difficulty, item).mean()


def test_the_words_of_a_biased_chain_are_those_that_validation_refuses() -> None:
    class Absolutes(params.Params, frozen=True, forbid_unknown_fields=False):
        absolutes: tuple[str, ...]

    assert set(ABSOLUTES) <= set(params.load("validate", Absolutes).absolutes)


@pytest.mark.parametrize("how", CONTRASTS)
def test_what_it_does_not_know_is_refused(how: str) -> None:
    with pytest.raises(Fault, match="knows no such question"):
        contrast("economy", an_item(question="谁最伟大？"), how, 0, full=True)
    with pytest.raises(Fault, match="finds 0 right options"):
        contrast("economy", an_item(options=("甲", "乙", "丙", "丁")), how, 0, full=True)


def test_wrong_options_that_nothing_of_the_sheet_speaks_for_cannot_be_argued_for() -> None:
    item = an_item(options=("甲", "乙", an_item().options[2], "丁"))

    with pytest.raises(Fault, match="knows no mix-up"):
        contrast("economy", item, "wrong", 0, full=True)


def test_an_option_that_is_no_name_is_passed_over() -> None:
    item = compose("economy", "intermediate", "factual", 1, full=True)
    options = tuple(item.options[n] if "ABCD"[n] in (item.answer, "A") else "火星" + "ABCD"[n] for n in range(4))

    for seed in range(6):
        assert contrast("economy", replace(item, options=options), "wrong", seed, full=True).answer == "A"
