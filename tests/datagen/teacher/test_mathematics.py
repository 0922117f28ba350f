"""Every question of mathematics has one right option, and it is the answer; so says computer algebra, from the text.

`schemas.mathematics` shares no code with the families and forms that compose the questions.
"""

import re
from collections import Counter
from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from datagen.teacher.mathematics import about
from datagen.teacher.mathematics.compose import TOPICS, compose
from datagen.teacher.mathematics.forms import FAMILIES, FORMS
from datagen.teacher.mathematics.problems import Family, draw
from datagen.teacher.mathematics.replies import MATHEMATICS, REPLIES
from datagen.teacher.replies import KINDS, Refusal, complete
from datagen.teacher.review import PRAISE
from datagen.teacher.vary import VARIATIONS, Wish
from schemas.chain import parse, write
from schemas.faults import Fault
from schemas.mathematics import false_equality, plain, right, value
from schemas.record import LETTERS, Item
from tests.datagen.teacher.composed import other

ALL = [family for by_difficulty in FAMILIES.values() for families in by_difficulty.values() for family in families]
CELLS = [(topic, difficulty, kind) for topic in TOPICS for kind, difficulty in FORMS]


def an_item(**changed: object) -> Item:
    """A linear equation, its chain whole."""
    return replace(compose("algebra", "basic", "factual", 0, full=True), **changed)


def letters(item: Item) -> str:
    found = right(item.question, item.options)
    assert found is not None, item.question
    return "".join(letter for letter, held in zip(LETTERS, found, strict=True) if held)


def texts(item: Item) -> tuple[str, ...]:
    return (item.think, *item.steps, item.reflection, item.adjustment or "")


@pytest.mark.parametrize("family", ALL, ids=lambda family: f"{family.__module__.rpartition('.')[2]}.{family.__name__}")
def test_the_value_of_a_problem_is_what_its_text_comes_to(family: Family) -> None:
    rng, drawn = Random(7), set()

    for _ in range(60):
        problem = draw(family, rng)

        assert value(plain(problem.sought)) == problem.value, problem.sought
        assert 1 <= len(problem.steps) <= 3
        assert not any(map(false_equality, problem.steps)), problem.steps
        assert len(problem.slips()) >= 3
        assert problem.value not in dict(problem.slips())
        drawn.add(problem.sought)
    assert len(drawn) > 20


@pytest.mark.parametrize(("topic", "difficulty", "kind"), CELLS)
def test_exactly_one_option_is_right_and_the_chain_arrives_at_it(topic: str, difficulty: str, kind: str) -> None:
    for seed in range(8):
        item = compose(topic, difficulty, kind, seed, full=False)

        assert letters(item) == item.answer, item.question
        assert len(set(item.options)) == 4
        assert item.steps[-1].endswith(f"（{item.answer}）")
        assert not any(map(false_equality, texts(item)))


@pytest.mark.parametrize(("topic", "difficulty", "kind"), CELLS[::4])
def test_a_cell_holds_as_many_questions_as_it_has_samples(topic: str, difficulty: str, kind: str) -> None:
    drawn = [compose(topic, difficulty, kind, seed, full=False) for seed in range(60)]

    assert len({(item.question, *sorted(item.options)) for item in drawn}) >= 59


def test_a_full_chain_asks_the_same_and_names_what_is_wrong_with_every_other_option() -> None:
    for topic, difficulty, kind in CELLS:
        brief, whole = (compose(topic, difficulty, kind, 1, full=full) for full in (False, True))

        looks = [step for step in whole.steps if step.startswith("核对选项")]
        assert (whole.question, whole.options, whole.answer) == (brief.question, brief.options, brief.answer)
        assert [look[4] for look in looks] == list(LETTERS)
        assert [look[4] for look in looks if not look.endswith("，不符合题意。")] == [whole.answer]
        assert "中立" in whole.reflection
        assert parse(write(whole)) == whole


def test_the_same_request_has_the_same_reply_and_the_letters_are_even() -> None:
    drawn = [compose(topic, difficulty, kind, 5, full=False) for topic, difficulty, kind in CELLS for _ in range(2)]

    assert drawn[::2] == drawn[1::2]
    counts = Counter(
        compose(topic, difficulty, kind, seed, full=False).answer
        for topic, difficulty, kind in CELLS[::3]
        for seed in range(20)
    )
    assert all(abs(counts[letter] / counts.total() - 0.25) < 0.06 for letter in LETTERS)


def test_a_cell_without_a_form_or_problems_is_refused() -> None:
    with pytest.raises(Fault, match="no form for type 'poetic'"):
        compose("algebra", "basic", "poetic", 0, full=True)
    with pytest.raises(Fault, match="no form for type 'factual' at difficulty 'olympic'"):
        compose("algebra", "olympic", "factual", 0, full=True)


# What is asked about questions that are there.


@pytest.mark.parametrize("topic", TOPICS)
def test_a_question_shown_without_its_answer_is_answered(topic: str) -> None:
    for kind, difficulty in FORMS:
        item = compose(topic, difficulty, kind, 2, full=False)

        assert about.answered(item.question, item.options).answer == item.answer


@pytest.mark.parametrize("topic", TOPICS)
def test_marks_tell_a_right_answer_from_a_wrong_one(topic: str) -> None:
    for kind, difficulty in FORMS:
        item = compose(topic, difficulty, kind, 3, full=True)

        good = about.judge(difficulty, item)
        bad = about.judge(difficulty, replace(item, answer=other(item.answer)))
        assert good.rigor == 5
        assert good.mean() > 4
        assert (bad.rigor, bad.educational_value) == (1, 1)
        assert f"正确的是选项{item.answer}" in bad.feedback


@pytest.mark.parametrize(
    ("changed", "rigor", "said"),
    [
        ({}, 5, PRAISE),
        ({"question": "谁最伟大？"}, 1, "无法由计算核实"),
        ({"options": ("1001", "1002", "1003", "1004")}, 1, "正确的选项有0个"),
        ({"steps": (*an_item().steps[:-1], "计算：3×4=13。", an_item().steps[-1])}, 3, "“3*4=13”不成立"),
        ({"steps": (an_item().steps[0], *an_item().steps[3:])}, 3, "没有写明计算的过程"),
        ({"steps": an_item().steps[:-1]}, 4, "没有得出所选的结论"),
        ({"reflection": "毫无疑问。"}, 4, "用词绝对"),
    ],
)
def test_each_shortcoming_is_said_and_costs_marks(changed: dict, rigor: int, said: str) -> None:
    found = about.judge("basic", an_item(**changed))

    assert said in found.feedback
    assert found.rigor == rigor


@pytest.mark.parametrize("topic", TOPICS)
def test_an_improved_item_is_right_and_marked_no_lower(topic: str) -> None:
    for kind, difficulty in FORMS:
        item = compose(topic, difficulty, kind, 4, full=False)
        spoiled = replace(item, think="想。", steps=("算得3×4=13。",), answer=other(item.answer))
        for before in (item, spoiled):
            marks = about.judge(difficulty, before)

            after = about.improve(before, marks.feedback, full=False)

            assert (after.question, after.options, after.answer) == (item.question, item.options, item.answer)
            assert about.judge(difficulty, after).mean() >= marks.mean()
            assert after.adjustment


@pytest.mark.parametrize("variation", VARIATIONS)
def test_a_variation_is_right_and_not_the_question_it_was_made_of(variation: str) -> None:
    for topic, difficulty, kind in CELLS[::2]:
        item = compose(topic, difficulty, kind, 6, full=False)

        found = about.vary(item, Wish(topic, difficulty, kind, variation, 0, False))

        assert letters(found) == found.answer
        assert (found.question, sorted(found.options)) != (item.question, sorted(item.options))
        assert found.question.endswith(item.question) or variation == "parameter_change"


@pytest.mark.parametrize("full", [True, False])
def test_a_contrast_keeps_the_question_and_is_wrong_or_one_sided(full: bool) -> None:
    for topic, difficulty, kind in CELLS[::2]:
        item = compose(topic, difficulty, kind, 7, full=full)
        wrong, biased = (about.contrast(item, how, 0, full=full) for how in ("wrong", "biased"))

        assert {(made.question, made.options) for made in (wrong, biased)} == {(item.question, item.options)}
        assert wrong.answer != item.answer == biased.answer
        assert re.search(rf"（{wrong.answer}）$|因此选{wrong.answer}。$", wrong.steps[-1])
        assert len(wrong.steps) == len(item.steps)
        assert any(word in biased.reflection for word in ("绝对正确", "不容置疑"))


@pytest.mark.parametrize("ask", [about.improve, lambda item, _, full: about.contrast(item, "wrong", 0, full=full)])
def test_a_question_that_cannot_be_worked_out_is_refused(ask) -> None:
    with pytest.raises(Fault, match="cannot work out: 谁最伟大"):
        ask(an_item(question="谁最伟大？"), "", full=True)
    with pytest.raises(Fault, match="finds 0 right options"):
        ask(an_item(options=("1001", "1002", "1003", "1004")), "", full=True)


# Requests.


def a_call(topic: str, *lines: str) -> bytes:
    told = (f"主题：题（{topic}）", "难度：基础（basic）", "题型：事实性（factual）", "推理链：简短（short）", *lines)
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "\n".join(told)}]})


def content(reply: bytes | Refusal) -> str:
    assert isinstance(reply, bytes), reply
    return msgspec.json.decode(reply)["choices"][0]["message"]["content"]


def test_every_kind_of_request_is_known() -> None:
    assert KINDS.keys() - REPLIES.keys() == {"translate"}


def test_a_topic_of_mathematics_is_computed_and_any_other_looked_up() -> None:
    assert content(complete(a_call("algebra"), others=MATHEMATICS)) == write(
        compose("algebra", "basic", "factual", 0, full=False)
    )
    assert "年" in content(complete(a_call("economy"), others=MATHEMATICS))


def test_a_request_that_cannot_be_met_is_refused() -> None:
    refusals = (
        complete(b"{", others=MATHEMATICS),
        complete(a_call("poetry"), others=MATHEMATICS),
        complete(a_call("algebra", "任务：评审（judge）"), others=MATHEMATICS),
    )

    assert [refusal.status for refusal in refusals if isinstance(refusal, Refusal)] == [400, 400, 400]
