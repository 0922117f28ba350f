from collections import Counter

import pytest
from msgspec.structs import replace

from curate.decisions import content
from curate.reporting import tallies
from curate.reporting.quality import reviewers, uneven
from schemas.record import Decision
from tests.curate.builders import a_record
from tests.curate.qualities import a_bank, a_quality


def a_decision(**changes: object) -> Decision:
    fields: dict[str, object] = {
        "id": a_record().id,
        "content": content(a_record()),
        "by_chance": True,
        "reviewer": "lin",
        "verdict": "accept",
        "reason": None,
        "note": "",
        "item": None,
        "at": "2026-01-01T00:00:00Z",
    }
    return Decision(**(fields | changes))


def test_the_replies_of_a_topic_are_what_validate_kept_and_what_it_dropped():
    dropped = tallies.Rejects(
        topics=Counter({("economy", "validate"): 7, ("economy", "dedup"): 9, ("gone", "validate"): 5})
    )

    assert a_quality(rejects=dropped).responses == {"economy": 607, "environment": 600}


def test_a_cell_without_a_record_is_empty_and_one_beyond_the_grid_is_shown():
    records = [record for record in a_bank(1) if (record.topic, record.difficulty) != ("economy", "basic")]
    quality = a_quality([*records, a_record(type="riddle")])

    assert quality.empty == [("economy", "basic", "factual"), ("economy", "basic", "conceptual")]
    assert quality.cells["environment", "basic", "riddle"] == 1


def test_a_topic_that_nobody_is_asked_for_has_the_cells_it_has():
    grid = a_quality().grid
    unasked = {topic: replace(of, samples=0) for topic, of in grid.topics.items()}
    quality = a_quality([a_record(topic="economy")], grid=replace(grid, topics=unasked))

    assert quality.empty == []
    assert quality.cells == {("economy", "basic", "factual"): 1}


def test_the_funnel_ends_with_what_is_on_the_sides():
    quality = a_quality()

    assert list(quality.funnel) == ["responses", "validate", "dedup", "decontaminate", "gate", "balance", "split"]
    assert quality.funnel["split"] == quality.bank.records == 1200


@pytest.mark.parametrize(
    ("letters", "off"),
    [({"A": 1, "B": 1, "C": 1, "D": 1}, 0.0), ({"A": 0, "B": 2, "C": 1, "D": 1}, 0.25), ({"A": 0}, 0.0)],
)
def test_letters_are_off_by_as_much_as_the_worst_of_them(letters, off):
    assert uneven(letters) == off


def test_of_a_reviewer_the_last_decision_about_a_record_counts():
    said = reviewers(
        [
            a_decision(verdict="reject", reason="unclear"),
            a_decision(verdict="accept"),
            a_decision(reviewer="wu", verdict="reject", reason="trivial"),
        ]
    )

    assert said.verdicts == {("lin", "accept"): 1, ("wu", "reject"): 1}
    assert said.reasons == {"trivial": 1}
