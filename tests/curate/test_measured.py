import pytest

from curate.reporting import measured
from schemas.faults import Fault


def test_fields_that_are_not_shown_are_passed_over(tmp_path):
    path = tmp_path / "decontaminate.json"
    path.write_text('{"records": 2, "kept": 1, "rejected": {"known": 1}, "tests": {}}', encoding="utf-8")

    assert measured.read(path, measured.Kept) == measured.Kept(2, 1, {"known": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file or directory; its stage writes it, run `dvc repro gate`"),
        ('{"records": 2}', "Object missing required field `kept`; run `dvc repro gate`"),
        ('{"records": 2', "Input data was truncated; run `dvc repro gate`"),
        ("<<<<<<< HEAD\n", "JSON is malformed: invalid character (byte 0); run `dvc repro gate`"),
        ("\xff", "; run `dvc repro gate`"),
    ],
)
def test_metrics_that_cannot_be_read_name_the_stage_that_writes_them(tmp_path, text, said):
    path = tmp_path / "gate.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))

    with pytest.raises(Fault) as caught:
        measured.read(path, measured.Kept)

    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.message.endswith(said)


def test_metrics_of_a_later_stage_need_not_be_there(tmp_path):
    assert measured.if_there(tmp_path / "score.json", measured.Score) is None
