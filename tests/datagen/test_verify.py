import pytest

from datagen.about import Query, Settled
from datagen.asking import Tally
from datagen.verify import agrees, metrics, verifications
from schemas.record import Record, Verification
from tests.curate.builders import a_record
from tests.datagen.builders import a_bank, run, scripted, the_figures, the_rows

ANSWERED = "<answer><reasoning><step>一</step></reasoning><output>{}</output></answer>"


def samples(record: Record, letters: str) -> list[Settled]:
    """A sample for each letter, `-` for one without a valid reply."""
    return [
        Settled(
            query=Query(record, (), n),
            id=f"{n}",
            teacher="m @ x",
            content="" if letter == "-" else ANSWERED.format(letter),
            fault=f"not_xml: {n}" if letter == "-" else None,
        )
        for n, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("letters", "answers", "agreed", "fault", "agree"),
    [
        ("B", ("B",), 1, None, True),
        ("C", ("C",), 0, None, False),
        ("-", (), 0, "not_xml: 0", False),
        ("BBC", ("B", "B", "C"), 2, None, True),
        ("BC", ("B", "C"), 1, None, False),
        ("B--", ("B",), 1, "not_xml: 1", False),
        ("B-B", ("B", "B"), 2, "not_xml: 1", True),
    ],
)
def test_a_record_agrees_if_most_of_its_samples_come_to_its_answer(letters, answers, agreed, fault, agree):
    ((_, row),) = verifications(samples(a_record(answer="B"), letters))

    assert row == Verification(
        id=a_record().id,
        answer="B",
        answers=answers,
        agreed=agreed,
        asked=len(letters),
        teacher="m @ x",
        fault=fault,
    )
    assert agrees(row) is agree


def test_the_figures_tell_where_agreement_is_lowest():
    records = [a_record(id=str(n), topic=f"topic_{n}") for n in range(3)]
    found = [*samples(records[0], "BB"), *samples(records[1], "BC"), *samples(records[2], "--")]

    figures = metrics(list(verifications(found)), Tally())

    assert (figures["agree"], figures["agreement"]) == (1, 0.75)
    assert list(figures["by"]["topic"].items()) == [("topic_1", 0.5), ("topic_0", 1.0)]


def test_the_embedded_teacher_comes_to_the_answer_of_every_question(project):
    result = run(project, "verify", a_bank(8))

    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    found = the_rows(project, Verification)
    assert [row.id for row in found] == [record.id for record in a_bank(8)]
    assert [row.answers for row in found] == [(record.answer,) for record in a_bank(8)]
    assert all(row.teacher.startswith("embedded @ embedded:") for row in found)


def test_each_sample_is_a_request_of_its_own(project):
    result = run(project, "verify", a_bank(2), samples=3)

    assert "2 of 2 agree, 6 asked now" in result.stderr
    assert [row.asked for row in the_rows(project, Verification)] == [3, 3]


def test_a_question_without_a_valid_answer_is_a_row_with_its_fault(project, serve):
    records = a_bank(4)
    _, base_url = serve(
        scripted(lambda first, again: "不知道" if records[1].question in first else ANSWERED.format("A"))
    )
    project.params(base_url=base_url)

    result = run(project, "verify", records, min_yield=0.5)

    assert result.exit_code == 0, result.stderr
    assert [row.fault is None for row in the_rows(project, Verification)] == [True, False, True, True]
    figures = the_figures(project)
    assert (figures["valid"], figures["rejected"], figures["faults"]) == (3, 1, {"not_xml": 1})
