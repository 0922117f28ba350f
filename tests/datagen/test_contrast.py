from msgspec.structs import replace

from datagen.contrast import to_the_letter
from schemas.chain import write
from schemas.record import Derived
from tests.curate.builders import a_record
from tests.datagen.builders import a_bank, handed_over, run, scripted, the_figures, the_rows


def test_a_wrong_chain_comes_to_another_answer_and_a_biased_one_to_the_same(project):
    records = {record.id: record for record in a_bank(4)}

    result = run(project, "contrast", list(records.values()))

    assert result.stderr == "contrast: 8 of 8 flawed chains, 8 asked now\n"
    for row in the_rows(project, Derived):
        record = records[row.of]
        assert (row.question, row.options) == (record.question, record.options)
        assert (row.answer != record.answer) is (row.how == "contrast:wrong")
        assert (row.think, row.steps) != (record.think, record.steps)
    assert the_figures(project)["made"] == {"contrast:biased": 4, "contrast:wrong": 4}


def test_question_and_options_are_the_records_to_the_letter():
    record = a_record()
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    copied = {"question": "《巴黎协定》是在哪一年通过的?", "options": ("2012 年", "2015年", "2016年", "2018年")}
    row = Derived(**(fields | copied | {"id": "2"}), of=record.id, how="contrast:biased")

    (found,) = to_the_letter([row], [record])

    assert (found.question, found.options, found.id) == (record.question, record.options, "2")


def test_a_chain_that_is_not_flawed_as_asked_is_left_out_and_counted(project, serve):
    _, base_url = serve(scripted(lambda first, again: write(replace(handed_over(first), think="显然如此。"))))
    project.params(base_url=base_url)

    result = run(project, "contrast", a_bank(2), min_yield=0.5)

    assert result.stderr == "contrast: 2 of 4 flawed chains, 4 asked now\n"
    assert [row.how for row in the_rows(project, Derived)] == ["contrast:biased"] * 2
    assert the_figures(project)["faults"] == {"answer_not_changed": 2}


def test_only_the_wanted_flaws_are_asked_for(project):
    result = run(project, "contrast", a_bank(2), flaws=["wrong"])

    assert result.stderr == "contrast: 2 of 2 flawed chains, 2 asked now\n"
