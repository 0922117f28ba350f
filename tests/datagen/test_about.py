from collections import Counter

import pytest

from datagen.about import by_place, cells, choose, mean, means, sound
from schemas.faults import Fault
from schemas.record import Derived, Record, Verification
from tests.curate.builders import a_record, many_records
from tests.datagen.builders import a_bank, run, scripted, the_figures, the_rows

ANSWERED = '<answer><reasoning><step n="1">一</step></reasoning><output>{}</output></answer>'


def ids(records: list[Record]) -> set[str]:
    return {record.id for record in records}


@pytest.mark.parametrize("count", [1, 7, 30, 59, 60, 100])
def test_as_many_records_as_wanted_are_chosen_in_their_order_and_evenly_from_the_topics(count):
    records = many_records(60, topics=4)

    chosen = choose(records, count)

    assert len(chosen) == min(count, 60)
    assert chosen == [record for record in records if record.id in ids(chosen)]
    per_topic = Counter(record.topic for record in chosen)
    assert max(per_topic.values()) - min(per_topic.values(), default=0) <= 1


def test_a_small_topic_gives_all_it_has_and_the_others_make_up_for_it():
    records = [
        record for record in many_records(60, topics=3) if record.topic != "topic_0" or record.id < "0" * 15 + "4"
    ]

    assert Counter(record.topic for record in choose(records, 20)) == {"topic_0": 2, "topic_1": 9, "topic_2": 9}


def test_all_are_chosen_when_no_number_is_given():
    records = many_records(9)

    assert choose(records, None) == records


def test_a_record_more_moves_at_most_one_out():
    records = many_records(60, topics=4)

    before, after = ids(choose(records[:-1], 20)), ids(choose(records, 20))

    assert len(before - after) <= 1


def test_the_order_of_the_file_does_not_decide_who_is_chosen():
    records = many_records(60, topics=4)

    assert ids(choose(records, 10)) == ids(choose(reversed(records), 10))


def test_a_record_that_could_not_be_handed_over_is_named(tmp_path):
    path = tmp_path / "records.jsonl"

    with pytest.raises(Fault, match=r"records\.jsonl: 7: wrong_shape: .*; `curate validate` would have dropped it"):
        sound([a_record(), a_record(id="7", question=" ")], path)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"topic": "education"}, None),
        ({"topic": "art"}, "topics.art: not there, but record 7 has it; add it"),
        ({"difficulty": "expert"}, "difficulties.expert: not there, but record 7 has it; add it"),
        ({"type": "open"}, "types.open: not there, but record 7 has it; add it"),
    ],
)
def test_a_record_of_a_cell_that_params_do_not_know_is_named(project, changed, line):
    record = a_record(id="7", **({"topic": "economy"} | changed))

    if line is None:
        assert cells()(record).topic[1].name == "教育体系"
    else:
        with pytest.raises(Fault, match=line):
            cells()(record)


def test_means_come_with_the_lowest_first():
    assert list(means([("b", 1), ("a", 3), ("c", 1), ("a", 2)]).items()) == [("b", 1), ("c", 1), ("a", 2.5)]
    assert mean([]) is None
    assert by_place([(a_record(), 1.0), (a_record(topic="economy"), 0.0)]) == {
        "topic": {"economy": 0, "environment": 1},
        "difficulty": {"basic": 0.5},
        "type": {"factual": 0.5},
    }


# What holds for every stage that asks about records, seen by `verify`.


def test_what_is_stored_is_not_asked_again_and_gives_the_same_bytes(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    first = run(project, "verify", a_bank(8))
    before = (project.folder / "out.jsonl").read_bytes(), (project.folder / "out.json").read_bytes()

    second = run(project, "verify", a_bank(8))

    assert first.stderr == "verify: 8 of 8 agree, 8 asked now\n"
    assert second.stderr == "verify: 8 of 8 agree, 0 asked now\n"
    assert ((project.folder / "out.jsonl").read_bytes(), (project.folder / "out.json").read_bytes()) == before
    assert teacher.calls.total() == 8


def test_more_records_ask_for_those_alone(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    run(project, "verify", a_bank(6))

    assert "2 asked now" in run(project, "verify", a_bank(8)).stderr
    assert teacher.calls.total() == 8


def test_the_number_of_rows_is_kept_to(project):
    run(project, "verify", a_bank(8), rows=3)

    assert len(the_rows(project, Verification)) == the_figures(project)["records"] == 3


def test_a_bad_reply_is_asked_again_with_the_document_it_should_be(project, serve):
    _, base_url = serve(scripted(lambda first, again: ANSWERED.format("B") if again else "我选B"))
    project.params(base_url=base_url)

    result = run(project, "verify", a_bank(4))

    assert result.exit_code == 0, result.stderr
    assert the_figures(project)["reasked"] == 4
    assert (the_figures(project)["prompt_tokens"], the_figures(project)["completion_tokens"]) == (16, 8)


def test_below_min_yield_nothing_is_written_and_the_reasons_are_named(project, serve):
    _, base_url = serve(scripted(lambda first, again: "我不能回答"))
    project.params(base_url=base_url)

    result = run(project, "verify", a_bank(4))

    assert result.exit_code == 1
    assert "verify: 0 of 4 valid, below min_yield 0.9 (not_xml 4); one of them, see `datagen show " in result.stderr
    assert not (project.folder / "out.jsonl").exists()
    assert not (project.folder / "out.json").exists()


def test_a_teacher_who_is_not_there_is_answered_by_the_nearest(project):
    result = run(project, "verify", a_bank(1), teacher="mian")

    assert result.exit_code == 1
    assert result.stderr == "params.yaml: teachers.mian: no such teacher; did you mean main?\n"


def test_each_row_can_be_traced_to_its_request(project):
    run(project, "vary", a_bank(1))

    for row in the_rows(project, Derived):
        shown = project.invoke("show", row.id).stdout
        assert row.how.partition(":")[2] in shown
        assert row.question in shown


@pytest.mark.parametrize(("records", "rows"), [(0, None), (8, 0)])
def test_no_records_are_nothing_to_do(project, records, rows):
    project.params(base_url="http://127.0.0.1:9/v1")  # nobody answers there

    result = run(project, "verify", a_bank(records), rows=rows)

    assert result.exit_code == 0, result.stderr
    assert (project.folder / "out.jsonl").read_bytes() == b""
    assert the_figures(project)["agreement"] is None
