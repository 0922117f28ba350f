"""Every composed question has exactly one right option, and it is the one the chain arrives at.

Which option is right, `answer` says, which shares no code with the forms: it knows a question by its text alone.
"""

from collections import Counter

import pytest

from datagen.teacher import answer, sheets
from datagen.teacher.compose import compose
from datagen.teacher.forms import FORMS, JUDGEMENTS
from schemas.chain import parse, write
from schemas.faults import Fault
from schemas.record import LETTERS, Item
from tests.datagen.teacher.composed import TOPICS, composed


def verdicts(topic: str, item: Item) -> tuple[bool, ...]:
    return answer.right(sheets.read(topic), answer.question(topic, item.question), item.options)


def truths(topic: str) -> set[str]:
    return {
        group.attributes[key].state.replace("{e}", entity.name).replace("{v}", entity.values[key])
        for group, entity, key in sheets.read(topic).facts()
    }


@pytest.mark.parametrize("topic", TOPICS)
def test_exactly_one_option_is_right_and_the_chain_arrives_at_it(topic: str) -> None:
    for kind, difficulty, item in composed(topic, full=False, seeds=range(40)):
        found = verdicts(topic, item)

        where = f"{kind}/{difficulty}: {item.question} {item.options}"
        assert found.count(True) == 1, where
        assert LETTERS[found.index(True)] == item.answer, where
        assert item.steps[-1].endswith(f"（{item.answer}）"), where


@pytest.mark.parametrize("topic", TOPICS)
def test_a_full_chain_asks_the_same_as_a_short_one_and_says_more(topic: str) -> None:
    short, full = (composed(topic, full=f, seeds=range(6)) for f in (False, True))

    for (_, _, brief), (_, _, whole) in zip(short, full, strict=True):
        assert (whole.question, whole.options, whole.answer) == (brief.question, brief.options, brief.answer)
        assert len(whole.steps) >= 4
        assert "中立" in whole.reflection
        assert whole.steps[-1].endswith(f"因此选{whole.answer}。")
        assert sum(map(len, whole.steps)) > sum(map(len, brief.steps))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_statement_in_the_evidence_is_one_of_the_sheet(topic: str) -> None:
    true = truths(topic)

    for kind, difficulty, item in composed(topic, full=True, seeds=range(10)):
        for step in item.steps:
            if step.startswith("列出依据：") and kind != "evaluative":
                assert step.removeprefix("列出依据：").rstrip("。") in true, f"{kind}/{difficulty}: {step}"


@pytest.mark.parametrize("topic", TOPICS)
def test_a_full_chain_says_the_truth_of_every_option_and_accepts_the_answer_alone(topic: str) -> None:
    true = truths(topic)

    for kind, difficulty, item in composed(topic, full=True, seeds=range(10)):
        checks = [step for step in item.steps if step.startswith("核对选项")]

        assert [check[4] for check in checks] == list(LETTERS)
        assert [check[4] for check in checks if not check.endswith("，不符合题意。")] == [item.answer]
        for check in checks:
            if kind == "comparative" or (kind, difficulty) in {("factual", "intermediate"), ("conceptual", "basic")}:
                assert check[6:].rpartition("，")[0] in true, check


@pytest.mark.parametrize("topic", TOPICS)
def test_a_reply_is_valid_xml_and_reads_back_as_composed(topic: str) -> None:
    for full in (False, True):
        for _, _, item in composed(topic, full=full, seeds=range(3)):
            assert parse(write(item)) == item


def test_the_same_request_has_the_same_reply() -> None:
    assert compose("economy", "basic", "factual", 3, full=True) == compose("economy", "basic", "factual", 3, full=True)


def test_a_cell_without_a_form_is_refused() -> None:
    with pytest.raises(Fault, match="no form for type 'factual' at difficulty 'expert'"):
        compose("economy", "expert", "factual", 0, full=True)


def test_the_answers_letters_are_even() -> None:
    letters = Counter(item.answer for topic in TOPICS for _, _, item in composed(topic, full=False, seeds=range(20)))

    total = sum(letters.values())
    assert all(abs(letters[letter] / total - 0.25) < 0.03 for letter in LETTERS)


@pytest.mark.parametrize(("kind", "difficulty"), FORMS)
def test_a_cell_of_one_topic_holds_many_distinct_questions(kind: str, difficulty: str) -> None:
    for topic in TOPICS:
        drawn = {
            (item.question, frozenset(item.options))
            for seed in range(60)
            for item in [compose(topic, difficulty, kind, seed, full=False)]
        }

        assert len(drawn) >= 20, topic


def test_no_judgement_is_the_likelier_one() -> None:
    found = Counter(
        compose(topic, "intermediate", "evaluative", seed, full=False).options[
            LETTERS.index(compose(topic, "intermediate", "evaluative", seed, full=False).answer)
        ]
        for topic in TOPICS
        for seed in range(60)
    )

    assert set(found) == set(JUDGEMENTS.values())
    assert all(abs(n / found.total() - 0.25) < 0.05 for n in found.values())
