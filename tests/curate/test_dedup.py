import json

import pytest

from curate.dedup import DedupParams, dedup, metrics
from schemas.record import Record
from tests.curate.builders import a_record

PARAMS = DedupParams(ngram=5, permutations=128, threshold=0.8, seed=7)
LONG = (
    "根据联合国环境规划署发布的历年报告，国际社会为应对臭氧层损耗而通过的第一项具有约束力的议定书是在哪一年开放签署的？"
)


def run(*records: Record):
    return dedup([a_record(**{"id": str(n)} | fields) for n, fields in enumerate(records)], PARAMS)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"steps": ("另一条推理。",), "think": "另想。"}, "duplicate"),
        ({"options": ("2015年", "2012年", "2018年", "2016年"), "answer": "A"}, "duplicate"),
        ({"question": "巴黎协定是在哪一年通过的"}, "duplicate"),
        ({"options": ("２０１２年", "２０１５年", "２０１６ 年", "2018年。")}, "duplicate"),
        ({"topic": "economy"}, "duplicate"),
        ({"answer": "C"}, "conflict"),
    ],
)
def test_an_equal_question_is_dropped_and_names_the_first(second, reason):
    found = run({}, second)

    assert [record.id for record in found.records] == ["0"]
    (reject,) = found.rejects
    assert (reject.id, reject.stage, reject.reason, reject.kept) == ("1", "dedup", reason, "0")
    assert json.loads(reject.raw)["id"] == "1"


@pytest.mark.parametrize(
    "second",
    [
        {"question": "《京都议定书》是在哪一年通过的？"},
        {"options": ("1992年", "2015年", "1997年", "2018年")},
    ],
)
def test_the_same_chain_under_another_question_is_kept(second):
    assert len(run({}, second).records) == 2


def test_a_nearly_equal_question_is_dropped_with_its_similarity():
    found = run({"question": LONG}, {"question": LONG.replace("开放签署", "开放签字")})

    assert [record.id for record in found.records] == ["0"]
    assert found.rejects[0].reason == "near_duplicate"
    assert found.rejects[0].detail.startswith("similarity 0.8")


def test_a_nearly_equal_question_with_another_answer_is_another_question():
    found = run({"question": LONG}, {"question": LONG.replace("第一项", "第二项"), "answer": "C"})

    assert len(found.records) == 2
    assert metrics(found)["near_other_answer"] == 1


def test_a_row_is_compared_with_kept_rows_only():
    near, nearer = LONG.replace("历年", "各年"), LONG.replace("历年", "各年").replace("开放签署", "开放签字")

    found = run({"question": LONG}, {"question": near}, {"question": nearer}, {"question": near})

    assert [(reject.id, reject.kept) for reject in found.rejects if reject.id != "2"] == [("1", "0"), ("3", "0")]
    kept = {record.id for record in found.records}
    assert all(reject.kept in kept for reject in found.rejects)


def test_no_rows_are_no_rows():
    assert metrics(run()) == {"records": 0, "kept": 0, "rejected": {}, "near_other_answer": 0, "topics": {}}
