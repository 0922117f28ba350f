import pytest

from train import model as models
from train.workplace import folder, last_checkpoint, workplace


def a_source(quantize="none", lora=None, dtype="float32"):
    return models.Source(model=None, dtype=dtype, quantize=quantize, lora=lora)


def test_a_checkpoint_that_a_kill_cut_off_is_passed_over(tmp_path):
    for step, whole in ((2, True), (10, True), (12, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "trainer_state.json").write_text("{}")

    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-12").exists()


def test_the_workplace_follows_params_and_inputs_under_dvcs_root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    data = tmp_path / "data.jsonl"
    data.write_text("1")

    first = workplace("sft@plain", a_source(), [data])

    assert first.is_relative_to(tmp_path / "root/.store/checkpoints/sft@plain")
    assert workplace("sft@plain", a_source(), [data]) == first
    assert workplace("sft@plain", a_source(quantize="nf4"), [data]) != first
    data.write_text("2")
    assert workplace("sft@plain", a_source(), [data]) != first


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "models" / "x"
    with folder(out) as new:
        (new / "a").write_text("1")
    with pytest.raises(KeyError), folder(out) as new:
        (new / "a").write_text("2")
        raise KeyError

    assert (out / "a").read_text() == "1"
    assert [path.name for path in out.parent.iterdir()] == ["x"]
