from collections import Counter
from itertools import product

import pytest

from curate.decisions import content
from curate.reviewing.sample import RISKS, ReviewParams, Shown, sample
from curate.shards import WorkersParams
from schemas.record import Judged, Judgement, Record, Verification
from schemas.rows import write
from tests.curate.builders import a_record

TOPICS, TYPES, DIFFICULTIES = ("economy", "education", "history"), ("factual", "analytical"), ("basic", "advanced")
HERE = WorkersParams(processes=1, ray=None)


def a_bank(each: int) -> list[Record]:
    """As many records of each cell, no two of one stem."""
    return [
        a_record(
            id=f"{topic}.{type_}.{difficulty}.{number}",
            question=f"{topic}{type_}{difficulty}第{number}号决议是在哪一年通过的？",
            topic=topic,
            type=type_,
            difficulty=difficulty,
        )
        for topic, type_, difficulty, number in product(TOPICS, TYPES, DIFFICULTIES, range(each))
    ]


def verified(id_: str, answers: str) -> Verification:
    right = answers.count("B")
    return Verification(
        id=id_, answer="B", answers=tuple(answers), agreed=right, asked=2, teacher="t", fault=None if answers else "x"
    )


def judged(id_: str, mark: int | None) -> Judged:
    names = ("rigor", "difficulty", "innovation", "clarity", "educational_value")
    marks = None if mark is None else Judgement(**dict.fromkeys(names, mark), feedback="好")
    return Judged(id=id_, judgement=marks, teacher="t", fault=None if marks else "x")


def drawn(folder, records, rows=24, seed=7, verify=(), judge=()) -> list[Shown]:
    paths = [folder / name for name in ("records.jsonl", "verify.jsonl", "judge.jsonl")]
    for path, found in zip(paths, (records, verify, judge), strict=True):
        write(path, found)
    return sample(*paths, ReviewParams(rows=rows, seed=seed), HERE)


def ids(shown: list[Shown]) -> list[str]:
    return [one.record.id for one in shown]


# --- by chance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 12, 13, 24, 119, 120, 500])
def test_as_many_are_shown_as_asked_for_or_as_there_are_and_none_twice(tmp_path, rows):
    found = ids(drawn(tmp_path, a_bank(10), rows))

    assert len(found) == len(set(found)) == min(rows, 120)


@pytest.mark.parametrize("rows", [3, 6, 12, 15, 24])
def test_every_stratum_is_represented_as_far_as_the_rows_go(tmp_path, rows):
    found = [one.record for one in drawn(tmp_path, a_bank(10), rows)]

    assert len({record.topic for record in found}) == 3
    assert len({(record.topic, record.type) for record in found}) == min(rows, 6)
    assert len({(record.topic, record.type, record.difficulty) for record in found}) == min(rows, 12)
    assert {*Counter(record.topic for record in found).values()} == {rows // 3}


def test_a_small_topic_gives_what_it_has_and_the_others_the_rest(tmp_path):
    records = [record for record in a_bank(10) if record.topic != "history" or record.id == "history.factual.basic.3"]

    found = Counter(one.record.topic for one in drawn(tmp_path, records, 21))

    assert found == {"economy": 10, "education": 10, "history": 1}


def test_the_same_seed_draws_the_same_and_another_seed_others(tmp_path):
    records = a_bank(10)

    first = ids(drawn(tmp_path, records))

    assert ids(drawn(tmp_path, records)) == first
    assert ids(drawn(tmp_path, records[::-1])) == first
    assert len(set(ids(drawn(tmp_path, records, seed=8))) & set(first)) < 15


def test_records_that_come_or_go_move_few_others(tmp_path):
    records = a_bank(40)
    before = set(ids(drawn(tmp_path, records, 60)))
    fewer = [record for number, record in enumerate(records) if number % 20]

    after = set(ids(drawn(tmp_path, fewer, 60)))

    there = {record.id for record in fewer}
    assert len(before & there) >= 50
    assert before & there <= after


def test_one_row_more_shows_all_that_were_shown(tmp_path):
    records = a_bank(10)
    before: set[str] = set()
    for rows in range(1, 40):
        now = set(ids(drawn(tmp_path, records, rows)))

        assert before <= now
        before = now


def test_a_reviewer_who_stops_early_has_seen_some_of_everything(tmp_path):
    found = [one.record.topic for one in drawn(tmp_path, a_bank(40), 60)]

    assert found != sorted(found)
    assert set(found[:15]) == set(TOPICS)


# --- by risk ---------------------------------------------------------------------------------------------------------


def test_half_of_the_rows_are_drawn_to_risk(tmp_path):
    records = [
        a_record(id=f"{n}", question=f"第{n}号决议是在哪一年通过的？", repairs=("fence",) if n % 4 == 0 else ())
        for n in range(200)
    ]

    found = drawn(tmp_path, records, 21)

    assert Counter(one.by_chance for one in found) == {True: 11, False: 10}
    assert all(one.risks == ("repaired",) for one in found if not one.by_chance)
    assert 0 < sum(bool(one.risks) for one in found if one.by_chance) < 11


@pytest.mark.parametrize(
    ("risk", "changes"),
    [
        ("repaired", {"repairs": ("fence",)}),
        ("fixed_order", {"options": ("2012年", "2015年", "2016年", "以上都不是")}),
        ("fixed_order", {"question": "与选项A相比，哪一年更早？"}),
        ("long", {"reflection": "依据公开资料，表述中立。" * 9}),
        ("short", {"think": ""}),
        ("other_answer", {"question": "economyfactualbasic第1号决议 是在哪一年通过的？", "answer": "C"}),
    ],
)
def test_what_a_record_holds_may_be_a_risk(tmp_path, risk, changes):
    records = [*a_bank(20), a_record(id="risky", topic="history", **changes)]

    found = {one.record.id: one for one in drawn(tmp_path, records, 4)}

    assert risk in found["risky"].risks


def test_a_question_with_another_answer_elsewhere_marks_both(tmp_path):
    records = [a_record(id="one"), a_record(id="other", answer="C"), a_record(id="third", question="另一题？")]

    assert {one.record.id: one.risks for one in drawn(tmp_path, records)} == {
        "one": ("other_answer",),
        "other": ("other_answer",),
        "third": ("short",),
    }


@pytest.mark.parametrize(
    ("answers", "mark", "expected"),
    [
        ("BB", 4, ()),
        (None, None, ()),
        ("BC", 4, ("verify_disagreed",)),
        ("", 4, ("no_reply",)),
        ("BB", 3, ("low_marks",)),
        ("BB", 0, ("no_marks",)),
        ("C", 3, ("verify_disagreed", "low_marks")),
    ],
)
def test_what_was_said_of_a_record_may_be_a_risk(tmp_path, answers, mark, expected):
    verify = [] if answers is None else [verified("1", answers)]
    judge = [] if mark is None else [judged("1", mark or None)]

    [one] = drawn(tmp_path, [a_record(id="1")], verify=verify, judge=judge)

    assert one.risks == expected
    assert (one.said.verify, one.said.judge) == (verify[0] if verify else None, judge[0] if judge else None)


def test_a_rare_risk_is_not_crowded_out_by_a_frequent_one(tmp_path):
    records = [
        a_record(id=f"{n}", question=f"第{n}号决议是在哪一年通过的？", repairs=("fence",) if n else ())
        for n in range(400)
    ]

    found = drawn(tmp_path, records, 4, verify=[verified("7", "CC")])

    assert "7" in ids(found)


def test_every_risk_is_named_in_the_order_of_its_gravity(tmp_path):
    record = a_record(id="1", repairs=("fence",), options=("一年", "二年", "三年", "以上都不是"))

    [one] = drawn(tmp_path, [record], verify=[verified("1", "C")], judge=[judged("1", 1)])

    assert one.risks == ("verify_disagreed", "low_marks", "repaired", "fixed_order")
    assert list(RISKS)[:2] == ["verify_disagreed", "low_marks"]


def test_a_shown_record_comes_with_the_hash_its_decisions_are_bound_to(tmp_path):
    [one] = drawn(tmp_path, [a_record()])

    assert one.record == a_record()
    assert one.content == content(a_record())


def test_no_records_are_no_sample(tmp_path):
    assert drawn(tmp_path, []) == []
