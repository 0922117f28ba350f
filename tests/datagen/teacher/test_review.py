"""Marks are measured: each shortcoming is found, said, and costs what it should; a good item has none."""

import pytest
from msgspec.structs import replace

from datagen.teacher.compose import compose
from datagen.teacher.review import PRAISE, RULES, judge
from schemas.chain import MARKS
from schemas.faults import Fault
from schemas.record import Item
from tests.datagen.teacher.composed import TOPICS, composed, other


def an_item(**changed: object) -> Item:
    """《卡塔赫纳协定》 is the answer, C, and the chain is whole."""
    return replace(compose("economy", "intermediate", "factual", 1, full=True), **changed)


def marks(item: Item, difficulty: str = "intermediate") -> dict[str, int]:
    found = judge("economy", difficulty, item)
    return {mark: getattr(found, mark) for mark in MARKS}


GOOD = an_item()


@pytest.mark.parametrize("topic", TOPICS)
def test_marks_are_whole_numbers_from_1_to_5_and_feedback_is_one_line(topic: str) -> None:
    for full in (True, False):
        for _, difficulty, item in composed(topic, full=full, seeds=range(3)):
            found = judge(topic, difficulty, item)

            assert all(getattr(found, mark) in range(1, 6) for mark in MARKS)
            assert found.feedback.strip()
            assert "\n" not in found.feedback


@pytest.mark.parametrize("topic", TOPICS)
def test_a_composed_item_is_rigorous_and_a_whole_chain_marked_no_lower_than_a_short_one(topic: str) -> None:
    short, full = (composed(topic, full=f, seeds=range(4)) for f in (False, True))

    for (_, difficulty, brief), (_, _, whole) in zip(short, full, strict=True):
        one, two = judge(topic, difficulty, brief), judge(topic, difficulty, whole)

        assert one.rigor >= 4
        assert two.rigor == two.educational_value == 5
        assert two.mean() >= one.mean()


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("by", [1, 2, 3])
def test_a_wrong_answer_has_the_lowest_rigor_and_the_right_one_is_named(topic: str, by: int) -> None:
    for _, difficulty, item in composed(topic, full=True, seeds=range(3)):
        found = judge(topic, difficulty, replace(item, answer=other(item.answer, by)))

        assert found.rigor == found.educational_value == 1
        assert f"答案有误，按资料正确的是选项{item.answer}" in found.feedback


def test_nothing_is_said_against_a_good_item() -> None:
    assert judge("economy", "intermediate", GOOD).feedback == PRAISE
    assert marks(GOOD) == {"rigor": 5, "difficulty": 5, "innovation": 3, "clarity": 5, "educational_value": 5}


@pytest.mark.parametrize(
    ("changed", "lower", "said"),
    [
        ({"question": "谁最伟大？"}, {"rigor": 1, "educational_value": 1}, "答案无法核实"),
        (
            {"options": ("《罗马条约》", "《阿布贾条约》", "《亚松森条约》", "《马拉喀什协定》")},
            {"rigor": 1, "educational_value": 1},
            "正确的选项有0个",
        ),
        ({"options": (GOOD.options[2],) * 4}, {"rigor": 1}, "正确的选项有4个"),
        (
            {"steps": (*GOOD.steps[:-1], "《罗马条约》于1969年生效。", GOOD.steps[-1])},
            {"rigor": 3, "educational_value": 4},
            "第7步中的“《罗马条约》于1969年生效”与资料不符",
        ),
        ({"think": "记得《罗马条约》于1969年生效，据此先作初步的判断。"}, {"rigor": 3}, "推理链中的“《罗马条约》"),
        (
            {
                "think": "先想想题目在问些什么，再逐项看过去，最后得出结论。",
                "steps": ("选项A、选项B", "选项D", "选项C"),
            },
            {"rigor": 3},
            "没有写明答案所依据的事实",
        ),
        ({"steps": GOOD.steps[:-1]}, {"rigor": 4, "clarity": 4}, "最后一步没有得出所选的结论"),
        ({"steps": (GOOD.steps[1], "想一想", GOOD.steps[-1])}, {"rigor": 4, "educational_value": 4}, "没有逐项说明"),
        ({"steps": (GOOD.steps[1], GOOD.steps[-1])}, {"educational_value": 3}, "推理步骤不足三步"),
        ({"think": "想想。"}, {"educational_value": 4}, "初步思考过于简略"),
        ({"reflection": "没有问题。"}, {"educational_value": 4}, "没有检查表述是否中立"),
        ({"think": GOOD.think + "毫无疑问。"}, {"rigor": 4, "educational_value": 3}, "用词绝对，有失中立（毫无疑问）"),
        ({"question": "哪一年？"}, {"clarity": 4}, "题干过短（4字）"),
        ({"question": "问" * 121}, {"clarity": 4}, "题干过长（121字）"),
        ({"options": (*GOOD.options[:3], "远" * 40)}, {"clarity": 4}, "选项长短悬殊"),
        ({"steps": (*GOOD.steps, "故选C" + "长" * 200)}, {"clarity": 4}, "有的步骤过长"),
    ],
)
def test_each_shortcoming_is_said_and_costs_marks(changed: dict, lower: dict[str, int], said: str) -> None:
    item = an_item(**changed)

    assert said in judge("economy", "intermediate", item).feedback
    assert {mark: n for mark, n in marks(item).items() if mark in lower} == lower


def test_every_rule_says_in_one_line_what_it_wants() -> None:
    assert all(rule.find.__doc__ and "\n" not in rule.find.__doc__ for rule in RULES)


def test_a_false_statement_that_the_question_quotes_is_not_held_against_the_chain() -> None:
    for seed in range(12):
        item = compose("economy", "basic", "evaluative", seed, full=True)

        assert "与资料不符" not in judge("economy", "basic", item).feedback


@pytest.mark.parametrize(
    ("kind", "written_for", "judged_as", "mark", "said"),
    [
        ("factual", "basic", "basic", 5, ""),
        ("factual", "basic", "intermediate", 3, "比标注的难度少"),
        ("factual", "basic", "advanced", 3, "比标注的难度少"),
        ("factual", "advanced", "advanced", 5, ""),
        ("analytical", "advanced", "basic", 3, "比标注的难度多"),
        ("factual", "basic", "olympic", 3, ""),
    ],
)
def test_the_mark_for_difficulty_is_for_how_well_it_fits(kind, written_for, judged_as, mark, said) -> None:
    found = judge("economy", judged_as, compose("economy", written_for, kind, 0, full=True))

    assert found.difficulty == mark
    assert said in found.feedback


@pytest.mark.parametrize(
    ("kind", "difficulty", "mark"),
    [
        ("factual", "basic", 2),  # recall
        ("analytical", "basic", 3),  # two facts joined
        ("analytical", "advanced", 4),  # three, from a riddle
        ("evaluative", "intermediate", 4),  # two claims weighed
    ],
)
def test_the_mark_for_innovation_is_for_what_goes_beyond_recall(kind: str, difficulty: str, mark: int) -> None:
    item = compose("economy", difficulty, kind, 0, full=True)
    framed = replace(item, question="某编辑在核对词条时需要确认：" + item.question)

    assert judge("economy", difficulty, item).innovation == mark
    assert judge("economy", difficulty, framed).innovation == mark + 1


def test_a_topic_without_a_sheet_cannot_be_judged() -> None:
    with pytest.raises(Fault, match="no fact sheet"):
        judge("astrology", "basic", GOOD)
