import random

import pytest
from msgspec.structs import asdict, replace

from schemas import rows
from schemas.chat import Words
from schemas.params import AuthorPrompt, Topic, Wording
from schemas.record import Commission, Derived, Example, Judged, Judgement, Message, Record
from tests.train.author.written import GOOD, a_reply, an_item
from train.author import rounds
from train.author.rounds import Round
from train.author.writing import Written

CELL = Commission(id="cell", topic="algebra", difficulty="basic", type="factual", prompt=())
WORDS = Words(
    AuthorPrompt(
        system="",
        write="写{topic}",
        vary="改{variation}：{item}",
        variations={"context_change": "换情境"},
        improve="按{feedback}改：{item}",
    ),
    {"algebra": Topic(name="代数", samples=1, round=0)},
    {"basic": Wording(name="基础", means="")},
    {"factual": Wording(name="事实性", means="")},
)


def a_written(item=GOOD, verdict="confirmed") -> Written:
    return Written(id="cell", thinking=True, reply=a_reply(item), verdict=verdict)


def a_record(n: int, item=GOOD) -> Record:
    place = {"topic": "algebra", "difficulty": "basic", "type": "factual", "teacher": "author", "repairs": ()}
    return Record(**asdict(item), **place, id=f"r{n}")


def a_derived(of: Record, how="improve", **changed) -> Derived:
    made = replace(of, **({"think": "先看条件。"} | changed))
    return Derived(**asdict(made) | {"id": f"{of.id}+", "teacher": "t"}, of=of.id, how=how)


def a_judged(record: Record, mark: int) -> Judged:
    names = ("rigor", "difficulty", "innovation", "clarity", "educational_value")
    return Judged(
        id=record.id, judgement=Judgement(**dict.fromkeys(names, mark), feedback="先看条件"), teacher="t", fault=None
    )


def a_chat(id: str) -> Example:
    return Example(id=id, messages=(Message(role="user", content="?"), Message(role="assistant", content=id)))


def test_what_is_refuted_or_malformed_is_not_sent_and_a_question_is_sent_once():
    refuted = an_item(answer="A")
    unchecked = an_item(question="谁最先用字母表示未知数，是3人中的哪一位？", steps=("是韦达。",))
    replies = [
        a_written(),
        a_written(),
        a_written(refuted),
        a_written(unchecked),
        replace(a_written(), reply="no item"),
    ]

    sent = rounds.records(replies, {"cell": CELL}, "models/author")

    assert [record.question for record in sent] == [GOOD.question, unchecked.question]
    assert {record.teacher for record in sent} == {"models/author"}
    assert rounds.records(replies, {"cell": CELL}, "another")[0].id == sent[0].id


@pytest.fixture
def of(tmp_path) -> Round:
    """Three questions: one improved, one good as it was, one that neither is; an improvement that is refuted."""
    found = Round(tmp_path)
    three = [a_record(n, an_item(think=f"想{n}")) for n in range(3)]
    rows.write(found.path("records"), three)
    rows.write(found.path("judged"), [a_judged(record, mark) for record, mark in zip(three, (3, 5, 2), strict=True)])
    rows.write(found.path("improved"), [a_derived(three[0]), a_derived(three[2], answer="A")])
    rows.write(found.path("finished"), rounds.finished(found, keep=4.0))
    rows.write(found.path("varied"), [a_derived(three[1], "vary:context_change")])
    return found


def test_finished_is_what_was_improved_or_good_from_the_start(of):
    assert [record.id for record in rounds.finished(of, keep=4.0)] == ["r0+", "r1"]
    assert [record.id for record in rounds.finished(of, keep=1.0)] == ["r0+", "r1", "r2"]


def test_a_finished_question_an_improvement_and_a_variation_are_lessons_and_nothing_refuted_is(of):
    made = rounds.lessons(of, WORDS, (True,), random.Random(0))

    assert [example.id for example in made] == ["r0+/write", "r1/write", "r0+/improve", "r1+/vary"]
    asked = [example.messages[0].content for example in made]
    assert asked[:2] == ["写代数", "写代数"]
    assert asked[2].startswith("按先看条件改：<item>")
    assert asked[3].startswith("改换情境：<item>")
    assert all("\n移项" in example.messages[-1].content.partition("</think>")[0] for example in made)


def test_lessons_are_written_in_each_way_that_the_author_has(of):
    made = [example for n in range(8) for example in rounds.lessons(of, WORDS, (True, False), random.Random(n))]

    assert {example.messages[-1].content[:7] for example in made} == {"<think>", "<item>\n"}


@pytest.mark.parametrize(
    ("fresh", "replayed", "share", "counts"),
    [(8, 9, 0.5, (5, 5)), (2, 9, 0.5, (4, 6)), (0, 9, 0.5, (0, 10)), (2, 0, 0.5, (10, 0)), (8, 9, 0.0, (10, 0))],
)
def test_rows_are_replayed_for_their_share_and_where_lessons_are_too_few(fresh, replayed, share, counts):
    pool = [a_chat(f"f{n}") for n in range(fresh)], [a_chat(f"r{n}") for n in range(replayed)]

    found = rounds.drawn(*pool, 10, share, 2, random.Random(0))

    assert (sum(row.id[0] == "f" for row in found), sum(row.id[0] == "r" for row in found)) == counts
    assert found == rounds.drawn(*pool, 10, share, 2, random.Random(0))
