import pytest
from click.testing import CliRunner

from curate.explain import main
from schemas.record import Reject
from schemas.rows import write
from tests.curate.builders import a_record, a_response


@pytest.fixture
def data(tmp_path):
    def reject(id_, stage, reason, detail, kept=None):
        return Reject(
            id=id_, topic="environment", stage=stage, reason=reason, detail=detail, kept=kept, raw='{"id":"x"}'
        )

    write(tmp_path / "responses/environment.jsonl", [a_response(id=id_) for id_ in ("1", "2", "3", "4")])
    write(tmp_path / "validated.jsonl", [a_record(id=id_) for id_ in ("1", "2")])
    write(tmp_path / "rejects/validate.jsonl", [reject("3", "validate", "no_reply", "")])
    write(tmp_path / "dedup.jsonl", [a_record(id="1")])
    write(tmp_path / "rejects/dedup.jsonl", [reject("2", "dedup", "near_duplicate", "similarity 0.950", "1")])
    write(tmp_path / "train.jsonl", [a_record(id="1")])
    return tmp_path


def run(id_, data):
    return CliRunner().invoke(main, [id_, "--data", str(data)])


def test_a_kept_row_is_shown_in_every_file(data):
    assert run("1", data).output.splitlines() == [
        f"1: in {data}/responses/environment.jsonl:1",
        f"1: in {data}/validated.jsonl:1",
        f"1: in {data}/dedup.jsonl:1",
        f"1: in {data}/train.jsonl:1",
    ]


def test_a_dropped_row_says_why_and_what_was_kept_instead(data):
    assert run("2", data).output.splitlines()[2:] == [
        "2: dropped by dedup: near_duplicate (similarity 0.950)",
        "2: kept instead: 1",
        f"1: in {data}/responses/environment.jsonl:1",
        f"1: in {data}/validated.jsonl:1",
        f"1: in {data}/dedup.jsonl:1",
        f"1: in {data}/train.jsonl:1",
    ]
    assert "3: dropped by validate: no_reply\n" in run("3", data).output


@pytest.mark.parametrize("id_", ["9", "x", '"', ""])
def test_an_unknown_id_is_one_line_and_exit_1(data, id_):
    result = run(id_, data)

    assert result.exit_code == 1
    assert f"no row '{id_}'" in result.output
