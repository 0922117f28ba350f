import pytest

from schemas.chain import Malformed, parse, write
from schemas.record import Derived
from tests.datagen.builders import a_bank, handed_over, run, scripted, the_figures, the_rows

ALL = ["context_change", "parameter_change", "practical_application"]


def test_each_record_has_its_variations_in_the_order_of_the_params(project):
    records = a_bank(4)

    result = run(project, "vary", records)

    assert result.stderr == "vary: 12 of 12 variations, 12 asked now\n"
    found = the_rows(project, Derived)
    assert [(row.of, row.how) for row in found] == [(record.id, f"vary:{how}") for record in records for how in ALL]
    assert len({row.id for row in found}) == 12
    assert the_figures(project)["made"] == {f"vary:{how}": 4 for how in ALL}


def test_a_variation_is_another_question_in_the_same_cell(project):
    records = {record.id: record for record in a_bank(4)}

    run(project, "vary", list(records.values()))

    for row in the_rows(project, Derived):
        record = records[row.of]
        assert (row.topic, row.difficulty, row.type) == (record.topic, record.difficulty, record.type)
        assert row.question != record.question
        assert not isinstance(parse(write(row)), Malformed)


def test_only_the_wanted_variations_are_asked_for(project):
    result = run(project, "vary", a_bank(2), variations=["parameter_change"])

    assert result.stderr == "vary: 2 of 2 variations, 2 asked now\n"


def test_the_chain_is_as_long_as_wanted(project):
    lengths = {}
    for chain in ("short", "full"):
        project.params()
        run(project, "vary", a_bank(2), chain=chain)
        lengths[chain] = sum(len("".join(row.steps)) for row in the_rows(project, Derived))

    assert lengths["full"] > 1.5 * lengths["short"]


def test_the_original_once_more_is_no_variation(project, serve):
    _, base_url = serve(scripted(lambda first, again: write(handed_over(first))))
    project.params(base_url=base_url)

    result = run(project, "vary", a_bank(2))

    assert result.exit_code == 1
    assert "vary: 0 of 6 valid, below min_yield 0.9 (not_varied 6)" in result.stderr


@pytest.mark.parametrize(
    ("variations", "line"),
    [
        (["rename"], "params.yaml: vary.variations[0]: Invalid enum value 'rename'\n"),
        ([], "params.yaml: vary.variations: Expected `array` of length >= 1\n"),
    ],
)
def test_variations_that_are_not_known_are_named(project, variations, line):
    result = run(project, "vary", a_bank(1), variations=variations)

    assert result.exit_code == 1
    assert result.stderr == line
