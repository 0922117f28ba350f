import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from curate.gate import GateParams, gate, main, verdicts
from schemas.faults import Fault
from schemas.record import Judged, Judgement, Record, Reject, Verification
from schemas.rows import read, write
from tests.curate.builders import a_record, many_records

PARAMS = GateParams(agreement=0.5, mark=3.0)


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

    assert gate(a_record(), said) == dropped


@pytest.mark.parametrize("agreement", [0.0, 0.5, 1.0])
def test_the_least_that_is_asked_for_is_enough(agreement):
    said = verdicts([a_verification("BC")], [], GateParams(agreement=agreement, mark=5.0))

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
    paths = [folder / name for name in ("verify.jsonl", "judge.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json")]
    for path, found in zip(paths, rows, strict=False):
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
