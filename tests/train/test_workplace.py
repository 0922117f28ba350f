import errno
import os
import shutil

import pytest

from schemas.faults import Fault
from train import model as models
from train import workplace as workplaces
from train.workplace import folder, is_running, last_checkpoint, running, workplace


def a_source(quantize="none", lora=None, dtype="float32"):
    return models.Source(model=None, dtype=dtype, quantize=quantize, lora=lora)


def a_checkpoint(place, step):
    """Write one as transformers does, of a tensor."""
    import torch
    from safetensors.torch import save_file

    folder = place / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"w": torch.ones(8)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"w": torch.ones(8)}, folder / name)
    (folder / "trainer_state.json").write_text('{"global_step": 1}')
    return folder


def cut(name, left):
    """What cuts a file of a checkpoint off, leaving such a share of it."""

    def do(checkpoint):
        os.truncate(checkpoint / name, int((checkpoint / name).stat().st_size * left))

    return do


@pytest.mark.parametrize(
    "harm",
    [
        lambda checkpoint: (checkpoint / "trainer_state.json").unlink(),
        *(cut("trainer_state.json", left) for left in (0, 0.5)),
        *(cut("model.safetensors", left) for left in (0, 0.1, 0.9)),
        *(cut("optimizer.pt", left) for left in (0, 0.5, 0.99)),
        cut("rng_state.pth", 0.9),
        cut("training_args.bin", 0.5),
        lambda checkpoint: (checkpoint / "optimizer.pt").write_bytes(bytes(2000)),
    ],
)
def test_a_checkpoint_that_was_cut_off_gives_way_to_the_one_before(tmp_path, harm):
    for step in (2, 10, 12):
        a_checkpoint(tmp_path, step)
    harm(tmp_path / "checkpoint-12")

    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2"]


def test_without_a_whole_checkpoint_there_is_none(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()

    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_a_second_run_of_the_same_training_is_told_who_is_at_it(tmp_path, monkeypatch):
    monkeypatch.setattr(workplaces, "PATIENCE", 0.0)

    with (
        running(tmp_path),
        pytest.raises(Fault, match=rf"{tmp_path}: process {os.getpid()} is at this very training; let it end"),
        running(tmp_path),
    ):
        pass

    with running(tmp_path):
        assert is_running(tmp_path)
    assert not is_running(tmp_path)


def test_processes_of_one_launch_share_the_workplace(tmp_path, monkeypatch):
    with running(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with running(tmp_path):
            assert is_running(tmp_path)
    assert not is_running(tmp_path)


def test_a_workplace_that_was_finished_and_removed_is_made_anew(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    with running(place):
        shutil.rmtree(place)
        assert not is_running(place)

    with running(place):
        assert is_running(place)


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 3601408 vs 3601296"), True),
        (RuntimeError("basic_ios::clear: iostream error"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_a_full_disk_is_told_from_other_faults(tmp_path, error, is_full):
    with pytest.raises(Fault if is_full else type(error)) as raised, running(tmp_path):
        raise error

    if is_full:
        assert "are free on this disk; make room, then run again: it begins anew" in raised.value.message


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
