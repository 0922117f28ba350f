import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from curate.checks import CHECKS
from curate.decisions import content
from curate.explain import explain, lines, main, told
from schemas.record import (
    Again,
    Decision,
    Derived,
    Judged,
    Judgement,
    Message,
    Pair,
    Placed,
    Prediction,
    Reject,
    Verification,
)
from schemas.rows import write
from tests.curate.builders import a_record, a_response

SIDES = {"1": "train", "6": "test", "7": "rollout", "8": "train"}
KEPT = {
    "validated": "1234678",
    "dedup": "134678",
    "decontaminated": "14678",
    "gated": "1678",
}
STAGES = ("validate", "dedup", "decontaminate", "gate", "balance", "split", "pairs")


def a_reject(id_: str, stage: str, reason: str, detail: str = "", kept: str | None = None) -> Reject:
    return Reject(id=id_, topic="environment", stage=stage, reason=reason, detail=detail, kept=kept, raw='{"id":"1"}')


REJECTS = {
    "validate": [a_reject("5", "validate", "not_xml", "line 1: no <item>")],
    "dedup": [a_reject("2", "dedup", "near_duplicate", "similarity 0.950", "1")],
    "decontaminate": [a_reject("3", "decontaminate", "known_question", "exam.csv:7, similarity 0.8")],
    "gate": [a_reject("4", "gate", "marked_low", "mean 2.0")],
}


def a_derived(id_: str, of: str, how: str) -> Derived:
    record = a_record(id=id_)
    return Derived(**{name: getattr(record, name) for name in record.__struct_fields__}, of=of, how=how)


def a_pair(id_: str) -> Pair:
    said = (Message(role="assistant", content="x"),)
    return Pair(id=id_, type="wrong_answer", prompt=said, chosen=said, rejected=said, why="argued for C")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Eight rows: 1 and 8 to train, 7 to rollout, 6 to test; 5, 2, 3 and 4 dropped by the stages in turn."""
    monkeypatch.chdir(tmp_path)
    write("data/responses/environment.jsonl", [a_response(id=id_, sample=int(id_)) for id_ in "12345678"])
    for name, ids in KEPT.items():
        write(f"data/{name}.jsonl", [a_record(id=id_, repairs=("fence",) if id_ == "7" else ()) for id_ in ids])
    moved = a_record(id="1", options=("2018年", "2012年", "2015年", "2016年"), answer="C")
    write("data/balanced.jsonl", [moved, *(a_record(id=id_) for id_ in "678")])
    for stage in STAGES:
        write(f"data/rejects/{stage}.jsonl", REJECTS.get(stage, []))
    clusters = {"1": "1", "6": "6", "7": "7", "8": "1"}
    write("data/sides.jsonl", [Placed(id=id_, cluster=clusters[id_], side=side) for id_, side in SIDES.items()])
    for side in ("train", "rollout", "validation", "test"):
        write(f"data/{side}.jsonl", [a_record(id=id_) for id_ in SIDES if SIDES[id_] == side])
    verified = Verification(id="6", answer="B", answers=("B", "C"), agreed=1, asked=2, teacher="t", fault=None)
    write("data/asked/verify.jsonl", [verified])
    marks = Judgement(rigor=5, difficulty=4, innovation=3, clarity=4, educational_value=4, feedback="干扰项可以更近")
    write("data/asked/judge.jsonl", [Judged(id="6", judgement=marks, teacher="t", fault=None)])
    for kind in ("improve", "vary", "contrast", "translate"):
        write(f"data/asked/{kind}.jsonl", [a_derived("v1", "6", "vary:context_change")] if kind == "vary" else [])
    write("data/pairs/train.jsonl", [a_pair("1.C"), a_pair("10.C"), a_pair("7.D"), a_pair("v1.A")])
    write("data/attempts.jsonl", [Prediction(id="7", response="C", answer="C", strategy="letter")])
    write("predictions/grpo.jsonl", [Prediction(id="6", response="B", answer="B", strategy="output")])
    return tmp_path


def story(id_: str) -> list[str]:
    """The lines that are told of a row, the spaces of the columns made one."""
    return [" ".join(line.split()) for line in told(explain(id_, Path("data"), lambda id_: []))][1:]


def run(*args: str):
    return CliRunner().invoke(main, args)


# --- the life of a row -----------------------------------------------------------------------------------------------


def test_a_row_that_was_kept_is_told_from_its_request_to_its_side_and_pairs(root):
    assert story("1") == [
        "request environment × basic × factual, sample 1, round 0, embedded (data/responses/environment.jsonl:1)",
        f"validate nothing to mend; passed {len(CHECKS)} checks (data/validated.jsonl:1)",
        "dedup kept (data/dedup.jsonl:1)",
        "dropped for it: 2 (near_duplicate)",
        "decontaminate kept (data/decontaminated.jsonl:1)",
        "gate kept (data/gated.jsonl:1)",
        "balance answer B → C; A B C D were D A B C, and the chain was led along (data/balanced.jsonl:1)",
        "split train, cluster 1; with 8 (data/sides.jsonl:1)",
        "in train.jsonl (data/train.jsonl:1)",
        "pairs 1.C, wrong_answer: argued for C (data/pairs/train.jsonl:1)",
        "ended in data/train.jsonl:1",
    ]


def test_a_test_question_is_told_with_what_was_said_of_it_made_from_it_and_answered_to_it(root):
    assert story("6")[4:] == [
        "verify 1 of 2 answered B as it does, others C (data/asked/verify.jsonl:1)",
        "judge mean 4.0: rigor 5, difficulty 4, innovation 3, clarity 4, educational_value 4; 干扰项可以更近 "
        "(data/asked/judge.jsonl:1)",
        "vary v1, vary:context_change (data/asked/vary.jsonl:1)",
        "gate kept (data/gated.jsonl:2)",
        "balance kept, answer B (data/balanced.jsonl:2)",
        "split test, cluster 6; alone (data/sides.jsonl:2)",
        "in test.jsonl (data/test.jsonl:1)",
        "predict grpo: answered B (output), right (predictions/grpo.jsonl:1)",
        "ended in data/test.jsonl:1",
    ]


def test_a_question_for_reinforcement_is_told_with_the_students_attempt_and_its_pairs(root):
    write("data/rejects/pairs.jsonl", [a_reject("7", "pairs", "too_long", "student_error: 9 characters")])

    found = story("7")

    assert found[1] == f"validate mended: fence; passed {len(CHECKS)} checks (data/validated.jsonl:6)"
    assert found[-5:] == [
        "in rollout.jsonl (data/rollout.jsonl:1)",
        "pairs 7.D, wrong_answer: argued for C (data/pairs/train.jsonl:3)",
        "none: too_long, student_error: 9 characters (data/rejects/pairs.jsonl:1)",
        "attempt answered C (letter), wrong, B is right (data/attempts.jsonl:1)",
        "ended in data/rollout.jsonl:1",
    ]


@pytest.mark.parametrize(
    ("id_", "stage", "said"),
    [
        ("5", "validate", "not_xml, line 1: no <item>"),
        ("2", "dedup", "near_duplicate, similarity 0.950; kept instead: 1"),
        ("3", "decontaminate", "known_question, exam.csv:7, similarity 0.8"),
        ("4", "gate", "marked_low, mean 2.0"),
    ],
)
def test_a_dropped_row_says_by_what_why_and_how_to_ask_again(root, id_, stage, said):
    reason = said.partition(",")[0]

    assert story(id_)[-3:] == [
        f"{stage} dropped: {said} (data/rejects/{stage}.jsonl:1)",
        f"ended dropped by {stage}: {reason}",
        f"next ask again: `curate worklist list.jsonl --reason {reason}`, then `datagen again list.jsonl`",
    ]


def a_decision(reviewer: str, verdict: str = "accept", **changes: object) -> Decision:
    fields = {"id": "6", "content": content(a_record()), "by_chance": True, "reason": None, "note": "", "item": None}
    fields |= {"reviewer": reviewer, "verdict": verdict, "at": "2026-01-31T12:00:00Z"}
    return Decision(**(fields | changes))


def test_a_reviewed_row_is_told_with_what_was_decided_and_what_of_it_counts(root):
    write(
        "curate/decisions.jsonl",
        [
            a_decision("ann", "reject", reason="unclear", note="哪一年？"),
            a_decision("bob", id="1"),
            a_decision("bob", content="0" * 16),
            a_decision("ann"),
        ],
    )

    assert [line for line in story("6") if "2026-01-31" in line] == [
        "review ann: reject as unclear, 哪一年？, 2026-01-31T12:00:00Z; taken back later (curate/decisions.jsonl:1)",
        "bob: accept, 2026-01-31T12:00:00Z; stale: the row was another then (curate/decisions.jsonl:3)",
        "ann: accept, 2026-01-31T12:00:00Z (curate/decisions.jsonl:4)",
    ]


def test_a_row_that_a_reviewer_edited_is_told_so(root):
    gated = [a_record(id=id_, question="改过的问题？" if id_ == "6" else "问题？") for id_ in KEPT["gated"]]
    write("data/gated.jsonl", gated)

    assert "gate kept, as a reviewer edited it (data/gated.jsonl:2)" in story("6")


def test_a_row_that_a_reviewer_rejected_may_be_asked_again(root):
    write("data/rejects/gate.jsonl", [a_reject("4", "gate", "rejected_by_reviewer", "ann: unclear")])

    assert story("4")[-2:] == [
        "ended dropped by gate: rejected_by_reviewer",
        "next ask again: `curate worklist list.jsonl --reason rejected_by_reviewer`, then `datagen again list.jsonl`",
    ]


@pytest.mark.parametrize("stage", ["balance", "split"])
def test_a_row_that_was_set_aside_is_not_to_be_asked_again(root, stage):
    write(f"data/rejects/{stage}.jsonl", [a_reject("8", stage, "cell_full")])
    for name in ("sides", "train", *(["balanced"] if stage == "balance" else [])):
        write(f"data/{name}.jsonl", [])

    assert story("8")[-2:] == [
        f"{stage} dropped: cell_full (data/rejects/{stage}.jsonl:1)",
        f"ended dropped by {stage}: cell_full",
    ]


def test_an_imported_row_was_never_asked_and_is_mended_where_it_came_from(root):
    write("data/responses/environment.jsonl", [])
    write("curate/imported/environment.own.jsonl", [a_response(id="5", teacher="import own.tsv")])

    found = told(explain("5", Path("data"), lambda id_: ["a call"]))

    assert list(found)[1:] == [
        "  request   environment × basic × factual, sample 0, round 0, import own.tsv "
        "(curate/imported/environment.own.jsonl:1)",
        "  validate  dropped: not_xml, line 1: no <item> (data/rejects/validate.jsonl:1)",
        "  ended     dropped by validate: not_xml",
        "  next      mend it in own.tsv and import it again",
    ]


def test_a_row_that_was_made_from_another_names_it(root):
    assert story("v1") == [
        "made vary:context_change from 6, embedded; nothing to mend (data/asked/vary.jsonl:1)",
        "pairs v1.A, wrong_answer: argued for C (data/pairs/train.jsonl:4)",
        "ended in data/asked/vary.jsonl:1",
        "next `curate explain 6` for the row it was made from",
    ]


# --- asking again ----------------------------------------------------------------------------------------------------


def listed(id_: str) -> None:
    place = {"topic": "environment", "difficulty": "basic", "type": "factual", "sample": 5, "round": 0}
    write("datagen/again.jsonl", [Again(id=id_, reason="not_xml", detail="", **place)])


def test_a_dropped_row_that_is_listed_waits_for_the_next_run(root):
    listed("5")

    assert story("5")[-1] == "next it is listed to be asked again: `dvc repro generate@environment`"


def test_what_was_asked_again_leads_from_the_old_row_to_the_new_and_back(root):
    listed("old")
    rows = [a_response(id=id_, sample=int(id_)) for id_ in "12345678"]
    write("data/responses/environment.jsonl", [*rows[:4], replace(rows[4], round=1), *rows[5:]])

    assert story("old") == [
        "request environment × basic × factual, sample 5, round 0; dropped: not_xml (datagen/again.jsonl:1)",
        "again 5, round 1 (data/responses/environment.jsonl:5)",
        "ended dropped: not_xml; asked again",
        "next `curate explain 5`",
    ]
    assert story("5")[1] == "in place of old, dropped: not_xml (datagen/again.jsonl:1)"


# --- the calls -------------------------------------------------------------------------------------------------------

PARAMS = """\
topics: {economy: {name: 经济发展, samples: 1, round: 0}}
difficulties: {basic: {name: 基础, means: 一步}}
types: {factual: {name: 事实性, means: 事实}}
teachers: {main: {base_url: embedded, model: embedded, api_key_env: KEY, temperature: 1.0, max_tokens: 2048, extra: {}}}
limits: {concurrency: 1, timeout: 10.0, hung: null, attempts: 1, rpm: null, tpm: null}
budget: {calls: null, tokens: null, money: null, hours: null}
prices: {}
generate: {teacher: main, prompt: write, chain: short, reasks: 0, min_yield: 1.0}
"""


def attempts(id_: str) -> list[str]:
    facts = json.loads(run(id_, "--json").output)["facts"]
    return [fact["said"] for fact in facts if fact["stage"] == "attempts"]


def test_the_attempts_are_those_of_the_store(root, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("DATAGEN_STORE", str(root / "store.sqlite"))
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    generate = ["generate", "economy", "data/responses/economy.jsonl", "metrics.json"]
    subprocess.run([sys.executable, "-m", "datagen", *generate], check=True, capture_output=True)

    called, replied, verdict = attempts(json.loads(Path("data/responses/economy.jsonl").read_bytes())["id"])

    assert called.startswith("attempt 1 at 2")
    assert ": valid, HTTP 200, " in called
    assert replied.startswith("reply by embedded, ")
    assert replied.endswith(" tokens, finish stop")
    assert verdict == "verdict: valid"
    assert attempts("1") == ["not known: 1: give at least 4 characters of an id"]


# --- what is told ----------------------------------------------------------------------------------------------------


def test_json_says_the_same_as_one_document(root):
    document = json.loads(run("2", "--json").output)

    assert list(document) == ["id", "facts", "ended", "next"]
    assert (document["id"], document["ended"]) == ("2", "dropped by dedup: near_duplicate")
    assert document["facts"][-1] == {
        "stage": "dedup",
        "said": "dropped: near_duplicate, similarity 0.950; kept instead: 1",
        "at": "data/rejects/dedup.jsonl:1",
    }
    shown = run("2").output
    assert all(fact["said"] in shown for fact in document["facts"])


def test_the_stages_stand_in_a_column(root):
    assert run("2").output.splitlines()[-4:] == [
        f"  validate  nothing to mend; passed {len(CHECKS)} checks (data/validated.jsonl:2)",
        "  dedup     dropped: near_duplicate, similarity 0.950; kept instead: 1 (data/rejects/dedup.jsonl:1)",
        "  ended     dropped by dedup: near_duplicate",
        "  next      ask again: `curate worklist list.jsonl --reason near_duplicate`, then `datagen again list.jsonl`",
    ]


def test_many_twins_are_counted_not_listed(root):
    write("data/rejects/dedup.jsonl", [a_reject(f"t{n}", "dedup", "duplicate", kept="1") for n in range(1007)])

    shown = ", ".join(f"t{n} (duplicate)" for n in range(5))
    assert f"dropped for it: {shown} and 1,002 more" in story("1")


def test_a_text_that_holds_the_id_is_not_the_row(root):
    reject = a_reject("9", "dedup", "duplicate", detail="1", kept="8")
    write("data/rejects/dedup.jsonl", [replace(reject, raw='{"id":"1","kept":"1"}'), replace(reject, id="10")])

    assert not any("dropped" in line for line in story("1"))


# --- files that are old or not there ---------------------------------------------------------------------------------


def test_files_that_are_not_there_are_said(root):
    for name in ("asked/verify.jsonl", "pairs/train.jsonl"):
        (root / "data" / name).unlink()

    assert story("1")[-2:] == [
        "missing data/asked/verify.jsonl, data/pairs/train.jsonl: not there; `dvc repro` writes them",
        "ended in data/train.jsonl:1",
    ]


def test_a_stage_that_has_not_run_is_where_the_story_ends(root):
    (root / "data/gated.jsonl").unlink()

    assert story("1")[-4:] == [
        "gate neither kept nor dropped: gated.jsonl is not there",
        "stale data/balanced.jsonl:1, data/sides.jsonl:1: left from an earlier run; `dvc repro` takes it out",
        "ended before gate",
        "next `dvc repro`",
    ]


def test_a_stage_that_knows_nothing_of_the_row_is_older_than_it(root):
    write("data/dedup.jsonl", [a_record(id="8")])

    assert "dedup neither kept nor dropped: dedup.jsonl is older than the row" in story("1")


def test_what_an_earlier_run_left_of_a_dropped_row_is_said(root):
    write("data/balanced.jsonl", [a_record(id="8"), a_record(id="2")])

    assert story("2")[-3] == "stale data/balanced.jsonl:2: left from an earlier run; `dvc repro` takes it out"


def test_a_row_whose_response_is_gone_is_of_an_earlier_run(root):
    write("data/responses/environment.jsonl", [])

    assert story("1")[0] == "request not among the responses: the row is of an earlier run; `dvc repro`"


# --- ids -------------------------------------------------------------------------------------------------------------


def test_the_beginning_of_an_id_is_enough_if_no_other_begins_so(root):
    write("data/responses/environment.jsonl", [a_response(id=id_) for id_ in ("3eb10000", "3eb20000", "ab", "abc")])

    found = {given: explain(given, Path("data"), lambda id_: []).id for given in ("3eb1", "3eb2", "ab", "abc")}

    assert found == {"3eb1": "3eb10000", "3eb2": "3eb20000", "ab": "ab", "abc": "abc"}
    assert run("3eb").output == "3eb: 2 ids begin so: 3eb10000, 3eb20000; give more of it\n"
    assert run("3eb").exit_code == 1


@pytest.mark.parametrize("id_", ["9", "x", '"', "", "environment"])
def test_an_unknown_id_is_one_line_and_exit_1(root, id_):
    result = run(id_)

    assert result.exit_code == 1
    assert result.output.startswith(f"data: no row '{id_}'; ")
    assert result.output.count("\n") == 1


def test_a_broken_line_is_a_fault_with_its_number(root):
    with open("data/validated.jsonl", "ab") as file:
        file.write(b'{"id":"5","topic":7}\n')

    result = run("5")

    assert result.exit_code == 1
    assert result.output.startswith("data/validated.jsonl:8: ")


@pytest.mark.parametrize("size", [1, 7, 64, 4 << 20])
def test_lines_are_found_with_their_numbers_whatever_is_read_at_once(tmp_path, monkeypatch, size):
    monkeypatch.setattr("curate.explain.SIZE", size)
    texts = ["a", "needle", "", "b" * 100, "xneedley needle", "c", "needle without an end"]
    (tmp_path / "file").write_text("\n".join(texts))

    assert list(lines(tmp_path / "file", b"needle")) == [
        (number, text.encode()) for number, text in enumerate(texts, 1) if "needle" in text
    ]
