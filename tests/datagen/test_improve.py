from pathlib import Path

import pytest
from msgspec.structs import replace

from datagen.improve import wanting
from schemas import rows
from schemas.chain import write
from schemas.record import Derived, Judged, Judgement
from tests.curate.builders import a_record
from tests.datagen.builders import a_bank, handed_over, run, scripted, the_figures, the_rows

FEEDBACK = "没有逐项说明其余选项为何不成立；初步思考过于简略，没有交代背景。"


def judged(id: str, mark: int | None) -> Judged:
    five = dict.fromkeys(("rigor", "difficulty", "innovation", "clarity", "educational_value"), mark)
    judgement = None if mark is None else Judgement(**five, feedback=FEEDBACK)
    return Judged(id=id, judgement=judgement, teacher="m @ x", fault=None if mark else "not_xml: x")


def judge(project, *found: Judged) -> Path:
    path = project.folder / "judged.jsonl"
    rows.write(path, found)
    return path


def test_records_marked_below_the_threshold_are_wanting_and_all_others_counted():
    records = [a_record(id=str(n)) for n in range(5)]

    found = wanting(records, [judged("3", 2), judged("1", 4), judged("0", 3), judged("2", None)], 4.0)

    assert [record.id for record in found.records] == ["0", "3"]
    assert (found.good, found.unjudged) == (1, 2)


@pytest.mark.parametrize(("below", "count"), [(3.0, 0), (3.1, 1), (6.0, 1)])
def test_a_record_with_the_threshold_for_its_mean_is_good_enough(below, count):
    assert len(wanting([a_record(id="1")], [judged("1", 3)], below).records) == count


def test_what_was_marked_low_is_rewritten_and_keeps_its_question_and_answer(project):
    records = a_bank(4)
    marks = [judged(record.id, mark) for record, mark in zip(records, (2, 5, 2, 2), strict=True)]

    result = run(project, "improve", records, judge(project, *marks))

    assert result.exit_code == 0, result.stderr
    assert result.stderr == "improve: 3 of 3 rewritten, 3 asked now\n"
    found = the_rows(project, Derived)
    assert [row.of for row in found] == [records[n].id for n in (0, 2, 3)]
    assert {row.how for row in found} == {"improve"}
    for row, record in zip(found, (records[0], records[2], records[3]), strict=True):
        assert (row.question, row.answer, row.topic) == (record.question, record.answer, record.topic)
        assert len(row.steps) > len(record.steps)
    figures = the_figures(project)
    assert (figures["below"], figures["good"], figures["unjudged"], figures["mean_before"]) == (3, 1, 0, 2.0)


def test_one_whose_answer_was_changed_is_left_out_and_counted(project, serve):
    records = a_bank(4)

    def say(first: str, again: int) -> str:
        item = handed_over(first)
        other = "A" if item.answer != "A" else "B"
        answer = other if item.question == records[1].question else item.answer
        return write(replace(item, think="改写过。", answer=answer))

    _, base_url = serve(scripted(say))
    project.params(base_url=base_url)
    marks = [judged(record.id, 2) for record in records]

    result = run(project, "improve", records, judge(project, *marks), min_yield=0.5)

    assert result.stderr == "improve: 3 of 4 rewritten, 4 asked now\n"
    assert records[1].id not in [row.of for row in the_rows(project, Derived)]
    assert the_figures(project)["faults"] == {"answer_changed": 1}


def test_the_judges_words_reach_the_teacher(project, serve):
    heard: list[str] = []
    _, base_url = serve(scripted(lambda first, again: str(heard.append(first))))
    project.params(base_url=base_url)

    run(project, "improve", a_bank(1), judge(project, judged(a_bank(1)[0].id, 2)))

    assert f"\n意见：{FEEDBACK}\n" in heard[0]


def test_nothing_below_the_threshold_is_nothing_to_do(project):
    result = run(project, "improve", a_bank(2), judge(project, judged(a_bank(2)[0].id, 5)))

    assert result.stderr == "improve: 0 of 0 rewritten, 0 asked now\n"
    assert the_figures(project)["mean_before"] is None
