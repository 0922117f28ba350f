"""An improved item keeps its question, is right, and mends what the feedback named."""

import pytest
from msgspec.structs import replace

from datagen.teacher.compose import compose
from datagen.teacher.improve import improve
from datagen.teacher.review import PRAISE, judge
from schemas.faults import Fault
from schemas.record import Item
from tests.datagen.teacher.composed import TOPICS, composed, other

OF_THE_QUESTION = ("选项长短悬殊", "所需的思考比标注的难度少", PRAISE.rstrip("。"))
"""What no chain can mend."""


def an_item(**changed: object) -> Item:
    return replace(compose("economy", "basic", "factual", 1, full=False), **changed)


def shortcomings(feedback: str) -> set[str]:
    return set(feedback.rstrip("。").split("；"))


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("full", [True, False])
def test_nothing_that_the_feedback_said_of_the_chain_can_be_said_again(topic: str, full: bool) -> None:
    for _, difficulty, item in composed(topic, full=False, seeds=range(2)):
        spoiled = replace(
            item, think="想。", steps=("《罗马条约》",), reflection="毫无疑问。", answer=other(item.answer)
        )
        for before in (item, spoiled):
            feedback = judge(topic, difficulty, before).feedback

            after = improve(topic, before, feedback, full=full)

            again = judge(topic, difficulty, after).feedback
            assert not shortcomings(feedback) & shortcomings(again) - {*OF_THE_QUESTION}
            assert (after.question, after.options, after.answer) == (item.question, item.options, item.answer)
            assert after not in (before, item)


@pytest.mark.parametrize(
    ("feedback", "whole"),
    [
        ("初步思考过于简略", {"think"}),
        ("没有逐项说明其余选项为何不成立", {"steps"}),
        ("反思没有检查表述是否中立", {"reflection"}),
        ("没有交代背景；推理步骤不足三步。", {"think", "steps"}),
        ("很好。", {"think", "steps", "reflection"}),
    ],
)
def test_the_parts_that_are_named_are_written_at_full_length(feedback: str, whole: set[str]) -> None:
    short, full = (an_item(), compose("economy", "basic", "factual", 1, full=True))

    after = improve("economy", short, feedback, full=False)

    assert {part for part in ("think", "steps", "reflection") if getattr(after, part) != getattr(short, part)} == whole
    assert after.steps == (full if "steps" in whole else short).steps


def test_the_adjustment_tells_what_was_mended() -> None:
    wrong = an_item(answer="A")

    assert improve("economy", an_item(), "没有交代背景", full=True).adjustment == "复核时补充了背景，结论不变。"
    assert improve("economy", wrong, "很好", full=True).adjustment == (
        "复核时重新核对了各步的依据，发现选项A与资料不符，改为选项C。"
    )


def test_what_it_cannot_mend_is_refused() -> None:
    with pytest.raises(Fault, match="knows no such question"):
        improve("economy", an_item(question="谁最伟大？"), "很好", full=True)
    with pytest.raises(Fault, match="finds 0 right options"):
        improve("economy", an_item(options=("甲", "乙", "丙", "丁")), "很好", full=True)
