import json

import pytest
from click.testing import CliRunner

from curate import validate as stage
from curate.checks import CHECKS, ValidateParams
from curate.validate import judge, metrics, responses_of, validate
from schemas.chain import write as written
from schemas.faults import Fault
from schemas.record import Record, Reject, Response
from schemas.rows import read, write
from tests.curate.builders import a_record, a_response, an_item

PARAMS = ValidateParams(
    min_question=6,
    max_question=60,
    max_option=20,
    max_steps=3,
    max_chain=200,
    min_chinese=0.3,
    max_absolutes=0,
    absolutes=("毫无疑问", "绝对正确"),
)


def test_a_good_reply_becomes_a_record():
    assert judge(a_response(), PARAMS) == a_record()


def test_a_mended_reply_says_what_was_mended():
    response = a_response(content=f"```xml\n{written(an_item()).replace('>B<', '>（Ｂ）<')}\n```")

    assert judge(response, PARAMS) == a_record(repairs=("code_fence", "answer_letter"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question": "何年？"}, "question_too_short"),
        ({"question": "问" * 61}, "question_too_long"),
        ({"options": ("2012年", "2015年", "2016年", "年" * 21)}, "option_too_long"),
        ({"options": ("2012年", "2015年", "２０１５ 年。", "2018年")}, "options_not_distinct"),
        ({"steps": ("理由",) * 4}, "too_many_steps"),
        ({"think": "思" * 201}, "chain_too_long"),
        (
            {"question": "When was it?", "think": "It was then.", "steps": ("So it is.",), "reflection": "x"},
            "not_chinese",
        ),
        ({"think": "这毫无疑问是对的。"}, "not_neutral"),
        ({"think": "乱码\ufffd。"}, "unprintable"),
        ({"steps": ("故选C。",)}, "reasoning_disagrees"),
        ({"adjustment": "改正：答案是D。"}, "reasoning_disagrees"),
    ],
)
def test_a_failed_check_names_the_reason_and_keeps_the_reply(changes, reason):
    response = a_response(an_item(**changes))

    reject = judge(response, PARAMS)

    assert isinstance(reject, Reject)
    assert (reject.stage, reject.reason, reject.raw, reject.kept) == ("validate", reason, response.content, None)
    assert reject.detail


def test_every_check_has_a_case():
    cases = next(
        m for m in test_a_failed_check_names_the_reason_and_keeps_the_reply.pytestmark if m.name == "parametrize"
    )

    assert {reason for _, reason in cases.args[1]} == set(CHECKS)


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "问" * 6},
        {"question": "问" * 60},
        {"steps": ("理由",) * 3},
        {"steps": ("答案是A吗？不，", "故选B。")},
        {"steps": ("排除选项C。",)},
        {"steps": ("不应选C。",)},
        {"steps": ("故选C。",), "adjustment": "更正：故选B。"},
        {"steps": ("答案是B；答案是C，二者之中",)},
        {"think": "DNA与RNA", "options": ("DNA", "RNA", "dna", "蛋白质")},
    ],
)
def test_a_limit_that_is_met_drops_nothing(changes):
    assert isinstance(judge(a_response(an_item(**changes)), PARAMS), Record)


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


def test_the_second_row_of_an_id_is_dropped():
    found = validate([a_response(), a_response(), a_response(id="2")], PARAMS)

    assert [record.id for record in found.records] == ["0000000000000001", "2"]
    assert [reject.reason for reject in found.rejects] == ["duplicate_id"]
    assert metrics(found) == {
        "responses": 3,
        "kept": 2,
        "rejected": {"duplicate_id": 1},
        "repaired": {},
        "topics": {"environment": 2},
    }


def test_a_removed_topic_is_not_read(tmp_path):
    write(tmp_path / "economy.jsonl", [a_response(topic="economy")])
    write(tmp_path / "removed.jsonl", [a_response(topic="removed")])

    assert [row.topic for row in responses_of(tmp_path, ["economy"])] == ["economy"]


def test_a_row_in_the_file_of_another_topic_is_a_fault(tmp_path):
    write(tmp_path / "economy.jsonl", [a_response(topic="economy"), a_response(topic="education")])

    with pytest.raises(Fault, match=r"economy\.jsonl:2: topic 'education'"):
        list(responses_of(tmp_path, ["economy"]))


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
