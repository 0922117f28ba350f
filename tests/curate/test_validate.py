import json

import pytest
from click.testing import CliRunner

from curate import validate as stage
from curate.checks import ValidateParams
from curate.validate import judge, metrics, tally, validate
from schemas.chain import write as written
from schemas.params import load
from schemas.record import Record, Reject, Response
from schemas.rows import read, write
from tests.curate.builders import a_record, a_response, an_item

PARAMS = load("validate", ValidateParams)
ARGUMENTS = ["responses", "out.jsonl", "rejects.jsonl", "metrics.json", "--imported", "imported"]


def test_a_good_reply_becomes_a_record():
    assert judge(a_response(), PARAMS) == a_record()


def test_a_mended_reply_says_what_was_mended():
    response = a_response(content=f"```xml\n{written(an_item()).replace('>B<', '>（Ｂ）<')}\n```")

    assert judge(response, PARAMS) == a_record(repairs=("code_fence", "answer_letter"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question": "何年？"}, "question_too_short"),
        ({"steps": ("故选C。",)}, "reasoning_disagrees"),
    ],
)
def test_a_failed_check_names_the_reason_and_keeps_the_reply(changes, reason):
    response = a_response(an_item(**changes))

    reject = judge(response, PARAMS)

    assert isinstance(reject, Reject)
    assert (reject.stage, reject.reason, reject.raw, reject.kept) == ("validate", reason, response.content, None)
    assert reject.detail


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"content": "", "fault": "gave up after 6 tries"}, "no_reply", "gave up after 6 tries"),
        ({"content": " \n"}, "no_reply", "the reply is empty"),
        ({"content": "我不能回答。"}, "not_xml", "Start tag expected"),
        ({"content": "<!DOCTYPE x>" + written(an_item())}, "doctype", "not allowed"),
        ({"content": written(an_item()).replace("<think>", "<thin>")}, "not_xml", "mismatch"),
        ({"content": "x" * 70_000}, "too_large", "at most 65536"),
    ],
)
def test_a_reply_without_an_item_is_kept_as_a_reject(changes, reason, detail):
    reject = judge(a_response(**changes), PARAMS)

    assert isinstance(reject, Reject)
    assert reject.reason == reason
    assert detail in reject.detail


def test_a_reply_the_loop_gave_up_on_counts_if_it_can_be_read():
    assert judge(a_response(fault="asked 2 times again"), PARAMS) == a_record()


def test_what_was_found_is_counted():
    found = validate([a_response(), a_response(id="2", content="无"), a_response(id="3")], PARAMS)

    assert [record.id for record in found.records] == ["0000000000000001", "3"]
    assert metrics(tally(found)) == {
        "responses": 3,
        "kept": 2,
        "rejected": {"not_xml": 1},
        "repaired": {},
        "answer_longest": 0.25,
        "answer_ratio": 1.0,
        "answer_all_or_none": 0,
        "topics": {"environment": 2},
    }


def test_a_removed_topic_is_not_read(monkeypatch, a_project):
    monkeypatch.chdir(a_project)
    write("responses/environment.jsonl", [a_response()])
    write("responses/removed.jsonl", [a_response(topic="removed")])

    result = CliRunner().invoke(stage.main, ["responses", "out.jsonl", "rejects.jsonl", "metrics.json"])

    assert result.output == "validate: 1 of 1 kept\n"


def test_a_row_in_the_file_of_another_topic_is_a_fault_and_nothing_is_written(monkeypatch, a_project):
    monkeypatch.chdir(a_project)
    write("responses/environment.jsonl", [a_response(), a_response(topic="education")])

    result = CliRunner().invoke(stage.main, ["responses", "out.jsonl", "rejects.jsonl", "metrics.json"])

    assert result.exit_code == 1
    assert "responses/environment.jsonl:2: topic 'education' in the file of 'environment'" in result.output
    assert not (a_project / "out.jsonl").exists()


def test_what_was_imported_is_read_before_what_a_teacher_wrote(monkeypatch, a_project):
    monkeypatch.chdir(a_project)
    write("responses/environment.jsonl", [a_response()])
    write("imported/environment.b.jsonl", [a_response(id="2")])
    write("imported/environment.a.1.jsonl", [a_response(id="3")])

    result = CliRunner().invoke(stage.main, ARGUMENTS)

    assert result.output == "validate: 3 of 3 kept\n"
    assert [row.id for row in read("out.jsonl", Record)] == ["3", "2", "0000000000000001"]


def test_an_import_of_no_topic_is_said_and_not_read(monkeypatch, a_project):
    monkeypatch.chdir(a_project)
    write("responses/environment.jsonl", [a_response()])
    write("imported/removed.own.jsonl", [a_response(id="2", topic="removed")])

    result = CliRunner().invoke(stage.main, ARGUMENTS)

    assert result.output == (
        "validate: imported/removed.own.jsonl: params.yaml has no such topic, so it is not read\n"
        "validate: 1 of 1 kept\n"
    )


@pytest.mark.parametrize("other", ["responses/environment.jsonl", "imported/environment.a.jsonl"])
def test_an_imported_id_that_another_row_has_is_a_fault_and_nothing_is_written(monkeypatch, a_project, other):
    monkeypatch.chdir(a_project)
    write("responses/environment.jsonl", [])
    write("imported/environment.own.jsonl", [a_response(id="7")])
    write(other, [a_response(id="6"), a_response(id="7", content="x")])

    result = CliRunner().invoke(stage.main, ARGUMENTS)

    assert result.output.startswith(f"{other}:2: id '7' is that of a row of imported/environment.own.jsonl too; ")
    assert result.exit_code == 1
    assert not (a_project / "out.jsonl").exists()


def test_a_missing_topic_is_a_fault_and_nothing_is_written(tmp_path, monkeypatch, a_project):
    monkeypatch.chdir(a_project)

    result = CliRunner().invoke(stage.main, ["responses", "out.jsonl", "rejects.jsonl", "metrics.json"])

    assert result.exit_code == 1
    assert "responses/environment.jsonl: No such file" in result.output
    assert not (a_project / "out.jsonl").exists()


def test_the_stage_writes_rows_rejects_and_numbers(monkeypatch, a_project):
    monkeypatch.chdir(a_project)
    write(a_project / "responses/environment.jsonl", [a_response(), a_response(id="2", content="x")])

    result = CliRunner().invoke(stage.main, ["responses", "out.jsonl", "rejects/validate.jsonl", "m/validate.json"])

    assert result.output == "validate: 1 of 2 kept\n"
    assert list(read("out.jsonl", Record)) == [a_record()]
    assert [row.id for row in read("rejects/validate.jsonl", Reject)] == ["2"]
    assert json.loads((a_project / "m/validate.json").read_text())["rejected"] == {"not_xml": 1}
    assert list(read("responses/environment.jsonl", Response))
