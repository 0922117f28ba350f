import json
from itertools import zip_longest
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from curate.decisions import Dropped, content
from curate.gate import GateParams, gate, main, verdicts
from schemas.faults import Fault
from schemas.record import Decision, Item, Judged, Judgement, Record, Reject, Verification
from schemas.rows import read, write
from tests.curate.builders import a_record, configure, many_records

PARAMS = GateParams(agreement=0.5, mark=3.0, accept=0.8)


def a_verification(answers: str, **changes: object) -> Verification:
    """How the record of `a_record` was answered."""
    fields = {
        "id": a_record().id,
        "answer": "B",
        "answers": tuple(answers),
        "agreed": answers.count("B"),
        "asked": 4,
        "teacher": "other @ somewhere",
        "fault": None if answers else "not XML",
    }
    return Verification(**(fields | changes))


def judged(*marks: int, **changes: object) -> Judged:
    """Five marks of the record of `a_record`, or no judgement."""
    judgement = (
        Judgement(**dict(zip(Judgement.__struct_fields__, (*marks, "太直白。"), strict=True))) if marks else None
    )
    fields = {"id": a_record().id, "judgement": judgement, "teacher": "judge @ somewhere"}
    return Judged(**(fields | {"fault": None if marks else "not XML"} | changes))


@pytest.mark.parametrize(
    ("answers", "marks", "dropped"),
    [
        ("B", (3, 3, 3, 3, 3), None),
        ("BACB", (5, 5, 5, 5, 5), None),
        (None, None, None),
        ("", (), None),
        ("C", None, ("not_verified", "0 of 1 answered B: C; by other @ somewhere")),
        ("BCCD", None, ("not_verified", "1 of 4 answered B: B, C, C, D; by other @ somewhere")),
        ("C", (1, 1, 1, 1, 1), ("not_verified", "0 of 1 answered B: C; by other @ somewhere")),
        (
            "BB",
            (3, 3, 3, 3, 2),
            (
                "marked_low",
                "mean 2.8: rigor 3, difficulty 3, innovation 3, clarity 3, educational_value 2; "
                "by judge @ somewhere: 太直白。",
            ),
        ),
    ],
)
def test_a_record_is_dropped_for_what_was_said_against_it(answers, marks, dropped):
    said = verdicts(
        [] if answers is None else [a_verification(answers)], [] if marks is None else [judged(*marks)], PARAMS
    )

    assert gate(a_record(), said) == (None if dropped is None else Dropped(*dropped))


@pytest.mark.parametrize("agreement", [0.0, 0.5, 1.0])
def test_the_least_that_is_asked_for_is_enough(agreement):
    said = verdicts([a_verification("BC")], [], GateParams(agreement=agreement, mark=5.0, accept=None))

    assert (gate(a_record(), said) is None) == (agreement <= 0.5)


def test_two_rows_about_one_id_are_a_fault():
    with pytest.raises(Fault, match=r"verify: two rows about '0000000000000001'"):
        verdicts([a_verification("B"), a_verification("C")], [], PARAMS)
    with pytest.raises(Fault, match=r"judge: two rows about '0000000000000001'"):
        verdicts([], [judged(), judged(5, 5, 5, 5, 5)], PARAMS)


def test_a_verification_of_another_answer_is_a_fault():
    said = verdicts([a_verification("B")], [], PARAMS)

    with pytest.raises(Fault, match="was asked about when its answer was B, now it is C"):
        gate(a_record(answer="C"), said)


def run(folder: Path, records: Path, *rows: list[object]) -> tuple[int, str]:
    """Run the stage over what was verified, judged and decided."""
    names = ("verify.jsonl", "judge.jsonl", "decisions.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json")
    paths = [folder / name for name in names]
    for path, found in zip_longest(paths[:3], rows, fillvalue=[]):
        write(path, found)
    done = CliRunner().invoke(main, [str(records), *map(str, paths)])
    return done.exit_code, done.output


def test_the_stage_keeps_lines_as_they_were_and_counts(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    records = many_records(10)
    lines = [msgspec.json.encode(record) for record in records]
    lines[3] = lines[3].replace(b'":', b'" : ')
    lines[4] = lines[4].replace(b'":', b'":  ')
    (a_project / "in.jsonl").write_bytes(b"\n".join(lines))
    asked = [
        *(a_verification("A", id=records[n].id, answer="A", agreed=1) for n in (0, 1)),
        a_verification("", id=records[2].id, answer="A"),
        a_verification("C", id=records[3].id, answer="A"),
        a_verification("C", id="another bank's"),
    ]
    marks = [judged(1, 2, 1, 2, 1, id=records[5].id), judged(id=records[6].id), judged(5, 5, 5, 5, 5, id="gone")]

    assert run(a_project, Path("in.jsonl"), asked, marks) == (0, "gate: 8 of 10 kept\n")

    kept = (a_project / "out.jsonl").read_bytes().splitlines()
    assert kept == [line for n, line in enumerate(lines) if n not in (3, 5)]
    rejects = list(read(a_project / "rejects.jsonl", Reject))
    assert [(reject.id, reject.stage, reject.reason) for reject in rejects] == [
        (records[3].id, "gate", "not_verified"),
        (records[5].id, "gate", "marked_low"),
    ]
    assert [reject.raw.encode() for reject in rejects] == [lines[3], lines[5]]
    assert json.loads((a_project / "metrics.json").read_bytes()) == {
        "records": 10,
        "kept": 8,
        "rejected": {"marked_low": 1, "not_verified": 1},
        "verify": {"replied": 3, "without_reply": 1, "not_asked": 6, "not_there": 1},
        "judge": {"replied": 1, "without_reply": 1, "not_asked": 8, "not_there": 1},
        "review": {
            "reviewed": 0,
            "by_chance": 0,
            "accepted": 0,
            "edited": 0,
            "rejected": 0,
            "stale": 0,
            "not_there": 0,
            "overruled": 0,
            "accept": None,
            "low": None,
            "high": None,
            "topics": {},
            "kappa": {},
        },
    }


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_and_no_rows_pass(a_project, monkeypatch, count):
    monkeypatch.chdir(a_project)
    write("in.jsonl", many_records(count))

    assert run(a_project, Path("in.jsonl"), [], []) == (0, f"gate: {count} of {count} kept\n")
    assert list(read("out.jsonl", Record)) == many_records(count)


def test_a_bad_line_leaves_nothing_behind(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    (a_project / "in.jsonl").write_bytes(msgspec.json.encode(a_record()) + b"\n{\n")

    status, said = run(a_project, Path("in.jsonl"), [], [])

    assert status == 1
    assert said.startswith("in.jsonl:2: ")
    assert said.count("\n") == 1
    assert not (a_project / "out.jsonl").exists()


# --- reviewers -------------------------------------------------------------------------------------------------------


def decided(record: Record, verdict: str = "accept", reviewer: str = "ann", **changes: object) -> Decision:
    """What a reviewer decided about a record; an edit gives it another question."""
    item = Item(**{name: getattr(record, name) for name in Item.__struct_fields__})
    fields = {
        "id": record.id,
        "content": content(record),
        "by_chance": True,
        "reviewer": reviewer,
        "verdict": verdict,
        "reason": "unclear" if verdict == "reject" else None,
        "note": "",
        "item": replace(item, question="改过的问题是什么？") if verdict == "edit" else None,
        "at": "2026-01-31T12:00:00Z",
    }
    return Decision(**(fields | changes))


def review(folder: Path) -> dict[str, object]:
    return json.loads((folder / "metrics.json").read_bytes())["review"]


def test_what_reviewers_decided_is_done_and_counted(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    configure("gate", accept=None)
    records = many_records(8)
    write("in.jsonl", records)
    decisions = [
        decided(records[0]),
        decided(records[0], reviewer="bob"),
        decided(records[1], "edit"),
        decided(records[2], "reject", note="问的是哪一年？"),
        decided(records[2], reviewer="bob"),
        decided(records[3], "reject", content="0" * 16),
        decided(replace(records[4], id="gone"), "reject"),
        decided(records[5], "reject"),
        decided(records[5]),
    ]

    assert run(a_project, Path("in.jsonl"), [], [], decisions) == (0, "gate: 7 of 8 kept\n")

    edited = replace(records[1], question="改过的问题是什么？", repairs=("review",))
    assert list(read("out.jsonl", Record)) == [records[0], edited, *records[3:]]
    [dropped] = read("rejects.jsonl", Reject)
    assert (dropped.id, dropped.reason) == (records[2].id, "rejected_by_reviewer")
    assert dropped.detail == "ann: unclear, 问的是哪一年？"
    found = review(a_project)
    assert found.pop("topics") == {
        "topic_0": {"reviewed": 1, "accepted": 1, "accept": 1.0, "low": 0.2065, "high": 1.0},
        "topic_1": {"reviewed": 1, "accepted": 0, "accept": 0.0, "low": 0.0, "high": 0.7935},
        "topic_2": {"reviewed": 2, "accepted": 1, "accept": 0.5, "low": 0.0945, "high": 0.9055},
    }
    assert found == {
        "reviewed": 4,
        "by_chance": 4,
        "accepted": 2,
        "edited": 1,
        "rejected": 1,
        "stale": 1,
        "not_there": 1,
        "overruled": 0,
        "accept": 0.5,
        "low": 0.15,
        "high": 0.85,
        "kappa": {"ann and bob": {"records": 2, "agreed": 1, "kappa": 0.0}},
    }


@pytest.mark.parametrize(("verdict", "kept"), [("accept", True), ("edit", True), ("reject", False)])
def test_a_persons_word_goes_over_a_models(a_project, monkeypatch, verdict, kept):
    monkeypatch.chdir(a_project)
    configure("gate", accept=None)
    write("in.jsonl", [a_record()])

    run(a_project, Path("in.jsonl"), [a_verification("C")], [judged(1, 1, 1, 1, 1)], [decided(a_record(), verdict)])

    assert [reject.reason for reject in read("rejects.jsonl", Reject)] == ([] if kept else ["rejected_by_reviewer"])
    assert review(a_project)["overruled"] == kept


def test_a_stale_accept_does_not_save_a_record(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    write("in.jsonl", [a_record()])

    run(a_project, Path("in.jsonl"), [a_verification("C")], [], [decided(a_record(), content="0" * 16)])

    assert [reject.reason for reject in read("rejects.jsonl", Reject)] == ["not_verified"]


def a_review(accepted: dict[str, tuple[int, int]]) -> tuple[list[Record], list[Decision]]:
    """Records of some topics, so many of them accepted of so many reviewed."""
    records = [
        a_record(id=f"{topic}{number}", topic=topic)
        for topic, (_, count) in accepted.items()
        for number in range(count)
    ]
    decisions = [
        decided(record, "accept" if int(record.id.removeprefix(record.topic)) < accepted[record.topic][0] else "reject")
        for record in records
    ]
    return records, decisions


@pytest.mark.parametrize(
    ("accepted", "least", "said"),
    [
        (
            {"economy": (12, 30), "law": (29, 30)},
            0.8,
            "gate: economy: 12 of 30 reviewed rows accepted (0.40 [0.25, 0.58]), at least 0.8 is asked for; "
            "mend the topic (datagen regen economy) or lower gate.accept\n",
        ),
        (
            {"economy": (0, 30), "law": (15, 30)},
            0.8,
            "gate: economy: 0 of 30 reviewed rows accepted (0.00 [0.00, 0.11]), "
            "law: 15 of 30 reviewed rows accepted (0.50 [0.33, 0.67]), at least 0.8 is asked for; "
            "mend the topics (datagen regen economy, …) or lower gate.accept\n",
        ),
        (
            {"economy": (4, 7), "law": (4, 7), "history": (4, 7)},
            0.8,
            "gate: all topics: 12 of 21 reviewed rows accepted (0.57 [0.37, 0.76]), at least 0.8 is asked for; "
            "mend what was rejected (curate worklist) or lower gate.accept\n",
        ),
    ],
)
def test_too_few_accepted_fail_the_run_in_one_line_and_leave_nothing(a_project, monkeypatch, accepted, least, said):
    monkeypatch.chdir(a_project)
    configure("gate", accept=least)
    records, decisions = a_review(accepted)
    write("in.jsonl", records)
    before = sorted(path.name for path in a_project.iterdir())

    assert run(a_project, Path("in.jsonl"), [], [], decisions) == (1, said)
    added = {path.name for path in a_project.iterdir()} - {*before}
    assert added == {"verify.jsonl", "judge.jsonl", "decisions.jsonl"}


@pytest.mark.parametrize(
    ("accepted", "least"),
    [
        ({"economy": (12, 30)}, None),
        ({"economy": (12, 30)}, 0.57),
        ({"economy": (0, 0)}, 1.0),
        ({"economy": (0, 1)}, 0.8),
        ({"economy": (0, 4)}, 0.8),
        ({"economy": (3, 5)}, 0.8),
        ({"economy": (30, 30)}, 1.0),
    ],
)
def test_enough_accepted_or_too_few_reviewed_to_tell_pass(a_project, monkeypatch, accepted, least):
    monkeypatch.chdir(a_project)
    configure("gate", accept=least)
    records, decisions = a_review(accepted)
    write("in.jsonl", records)

    assert run(a_project, Path("in.jsonl"), [], [], decisions)[0] == 0


def test_stale_decisions_do_not_count_for_the_rate(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    records, decisions = a_review({"economy": (0, 30)})
    write("in.jsonl", records)

    status, _ = run(a_project, Path("in.jsonl"), [], [], [replace(one, content="0" * 16) for one in decisions])

    assert status == 0
    assert (review(a_project)["reviewed"], review(a_project)["stale"]) == (0, 30)


def test_decisions_edited_by_hand_that_are_wrong_are_named_by_their_line(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    write("in.jsonl", [a_record()])

    status, said = run(a_project, Path("in.jsonl"), [], [], [decided(a_record()), decided(a_record(), item=a_record())])

    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith(f"{a_project}/decisions.jsonl:2: ")
    assert not (a_project / "out.jsonl").exists()
