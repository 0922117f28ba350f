import re
from importlib.metadata import version

import pytest

from datagen.translate import converted, way
from schemas.chain import Malformed, parse, write
from schemas.record import Derived, Record
from tests.curate.builders import a_record
from tests.datagen.builders import a_bank, handed_over, run, scripted, the_figures, the_rows

ENGLISH = {
    "question": "In which year was the Paris Agreement adopted?",
    "options": ("2012", "2015", "2016", "2018"),
    "think": "First recall the background of the Paris Agreement.",
    "steps": ("The Paris Agreement was adopted in 2015.", "So option B is correct."),
    "reflection": "It rests on public sources, and the wording is neutral.",
}


def english(**changes: object) -> Record:
    return a_record(**(ENGLISH | {"topic": "economy"} | changes))


@pytest.mark.parametrize(
    ("record", "to", "expected"),
    [
        (a_record(), "zh_hant", "convert"),
        (a_record(), "zh_hans", "convert"),
        (a_record(), "en", "ask"),
        (english(), "zh_hant", "ask"),
        (english(), "zh_hans", "ask"),
        (english(), "en", "keep"),
    ],
)
def test_only_between_languages_a_teacher_is_asked(record, to, expected):
    assert way(record, to) == expected


def test_a_conversion_changes_characters_and_nothing_else():
    record = a_record(
        question="维生素C与DNA：头发里的<B>是什么？",
        options=("皇后", "后面", "AT&T", "2015年"),
        steps=("见《干部》第3页。", "因此选项B（后面）正确。"),
        adjustment="改过一处。",
    )

    row = converted(record, "zh_hant")

    assert row.question == "維生素C與DNA：頭髮裡的<B>是什麼？"
    assert row.options == ("皇后", "後面", "AT&T", "2015年")
    assert row.steps == ("見《幹部》第3頁。", "因此選項B（後面）正確。")
    assert row.adjustment == "改過一處。"
    assert (row.answer, row.topic, row.of, row.how) == ("B", "environment", record.id, "translate:zh_hant")
    assert row.teacher == f"OpenCC {version('opencc')} s2tw"


def test_scripts_are_converted_without_a_call(project):
    records = a_bank(6)
    project.params(base_url="http://127.0.0.1:9/v1")

    result = run(project, "translate", records)

    assert result.exit_code == 0, result.stderr
    assert result.stderr == "translate: 6 of 6 in zh_hant, 6 by OpenCC, 0 asked now\n"
    found = the_rows(project, Derived)
    assert [row.of for row in found] == [record.id for record in records]
    for row, record in zip(found, records, strict=True):
        assert re.findall(r"[A-Za-z0-9]+", write(row)) == re.findall(r"[A-Za-z0-9]+", write(record))
        assert not isinstance(parse(write(row)), Malformed)
    figures = the_figures(project)
    assert (figures["records"], figures["converted"], figures["requests"]) == (6, 6, 0)


def test_there_and_back_is_the_same(project):
    records = a_bank(6)
    run(project, "translate", records)
    there = [
        Record(**{name: getattr(row, name) for name in Record.__struct_fields__}) for row in the_rows(project, Derived)
    ]

    project.params()
    run(project, "translate", there, to="zh_hans")

    for row, record in zip(the_rows(project, Derived), records, strict=True):
        assert (row.question, row.options, row.steps) == (record.question, record.options, record.steps)


def test_a_teacher_translates_into_english_and_english_is_kept(project, serve):
    _, base_url = serve(scripted(lambda first, again: write(english(answer=handed_over(first).answer))))
    project.params(base_url=base_url)
    records = [a_bank(1)[0], english(id="e"), a_bank(2)[1]]

    result = run(project, "translate", records, to="en")

    assert result.stderr == "translate: 2 of 3 in en, 0 by OpenCC, 2 asked now\n"
    found = the_rows(project, Derived)
    assert [row.of for row in found] == [records[0].id, records[2].id]
    assert {row.question for row in found} == {ENGLISH["question"]}
    assert the_figures(project)["kept"] == 1


def test_converted_and_translated_rows_stand_in_the_order_of_the_records(project, serve):
    _, base_url = serve(scripted(lambda first, again: write(a_record())))
    project.params(base_url=base_url)
    records = [english(id="e"), *a_bank(2), english(id="f")]

    result = run(project, "translate", records, to="zh_hans")

    assert result.stderr == "translate: 4 of 4 in zh_hans, 2 by OpenCC, 2 asked now\n"
    assert [row.of for row in the_rows(project, Derived)] == [record.id for record in records]


def test_a_reply_in_the_old_language_is_left_out_and_counted(project, serve):
    _, base_url = serve(scripted(lambda first, again: write(handed_over(first))))
    project.params(base_url=base_url)

    result = run(project, "translate", a_bank(2), to="en", min_yield=0)

    assert result.exit_code == 0, result.stderr
    assert the_rows(project, Derived) == []
    assert the_figures(project)["faults"] == {"not_translated": 2}
