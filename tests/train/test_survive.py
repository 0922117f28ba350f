"""No run is lost: the real stages killed, their disk filled, their `dvc repro` gone, and run again."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import profile
from schemas.faults import Fault
from schemas.record import Pair, Prompt
from train import dpo, grpo, sft
from train.workplace import is_whole

SETS = ("data/sft.reasoning.train.jsonl", "data/sft.reasoning.validation.jsonl")
ROOT = Path(__file__).parents[2]
LORA = {"r": 4, "alpha": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj"], "bias": "none"}
WATCHED = """
import runpy, sys

_, asked, module = sys.argv[:3]

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open(asked, "a") as file:
            file.write(f"{args[1] if event == 'socket.connect' else args[0]}\\n")

sys.addaudithook(note)
sys.argv[1:3] = []
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Runs a module and writes down every address that it asks for or connects to."""


def until(true: Callable[[], Any], seconds: float = 90.0) -> None:
    """Wait for a condition, the shortest time that it takes."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def started(folder: Path, stage: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a stage as a process of its own, its workplace under `folder`, its connections noted."""
    unset = {"HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "CI"}
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder)}
    return subprocess.Popen([sys.executable, "-c", WATCHED, str(folder / "asked"), f"train.{stage}", *words], env=env)


def killed(process: subprocess.Popen[bytes], when: Callable[[], Any]) -> None:
    """Kill a process as soon as something holds."""
    until(lambda: when() or process.poll() is not None)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_the_watch_on_connections_sees_one(tmp_path):
    (tmp_path / "asking.py").write_text("import socket\nsocket.getaddrinfo('127.0.0.1', 9)\n")

    subprocess.run([sys.executable, "-c", WATCHED, str(tmp_path / "asked"), "asking"], cwd=tmp_path, check=True)

    assert (tmp_path / "asked").read_text() == "127.0.0.1\n"


def begun(folder: Path, step: int) -> Callable[[], bool]:
    """Whether a checkpoint below `folder` is there, be it half written."""
    return lambda: any(folder.glob(f".store/checkpoints/*/*/checkpoint-{step}"))


def written(folder: Path, step: int) -> Callable[[], bool]:
    """Whether a checkpoint below `folder` is whole."""
    return lambda: any(map(is_whole, folder.glob(f".store/checkpoints/*/*/checkpoint-{step}")))


def same_bytes(one: Path, other: Path) -> bool:
    names = {path.name for path in one.iterdir()}
    return names == {path.name for path in other.iterdir()} and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


@pytest.mark.parametrize("sampling", ["random", "batch_rebalance"])
def test_sft_killed_twice_and_its_last_checkpoint_cut_off_ends_in_the_same_bytes(
    project, changed, tmp_path, monkeypatch, capsys, sampling
):
    trainer = {"max_steps": 40, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "logging_steps": 3}
    trainer["train_sampling_strategy"] = sampling
    changed(
        {
            "sft": {
                "reasoning": {"lora": LORA, "watch": {"every": 9}, "trainer": stage_trainer("sft.reasoning") | trainer}
            }
        }
    )
    words = ("reasoning", *SETS, "models/base")
    sft.main([*words, "models/unhindered", "metrics/u.json"], standalone_mode=False)

    killed(started(tmp_path, "sft", *words, "models/killed", "metrics/k.json"), begun(tmp_path, 8))
    second = started(tmp_path, "sft", *words, "models/killed", "metrics/k.json")
    killed(second, written(tmp_path, 20))
    newest = max(tmp_path.glob(".store/checkpoints/*/*/checkpoint-*"), key=lambda path: int(path.name[11:]))
    os.truncate(newest / "optimizer.pt", (newest / "optimizer.pt").stat().st_size // 2)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    capsys.readouterr()
    sft.main([*words, "models/killed", "metrics/k.json"], standalone_mode=False)

    assert f"goes on from checkpoint-{int(newest.name[11:]) - 4}" in capsys.readouterr().out
    assert same_bytes(project / "models/killed", project / "models/unhindered")
    assert not (tmp_path / "asked").exists()


def stage_trainer(section: str) -> dict[str, Any]:
    """The settings of a stage's trainer as they are."""
    found = profile.read(Path("params.yaml"))
    for name in section.split("."):
        found = found[name]
    return dict(found["trainer"])


def test_grpo_killed_ends_in_the_same_bytes(trained, changed, tmp_path, monkeypatch):
    trainer = {"max_steps": 6, "gradient_accumulation_steps": 2, "save_steps": 2, "learning_rate": 0.005}
    trainer |= {"temperature": 0.5}  # so that replies repeat themselves, some more than others
    changed(
        {
            "grpo": {
                "z_score": True,
                "max_prompt": 150,
                "rewards": {"repetition": 1.0},
                "trainer": stage_trainer("grpo") | trainer,
            }
        }
    )
    words = ("data/prompts.jsonl", "models/reasoning")
    grpo.main([*words, "models/unhindered", "metrics/u.json"], standalone_mode=False)

    process = started(tmp_path, "grpo", *words, "models/killed", "metrics/k.json")
    killed(process, written(tmp_path, 2))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    grpo.main([*words, "models/killed", "metrics/k.json"], standalone_mode=False)

    assert project_metrics(trained, "k")["resumed_at"] >= 2
    assert (trained / "models/killed/model.safetensors").read_bytes() != (
        trained / "models/reasoning/model.safetensors"
    ).read_bytes()
    assert same_bytes(trained / "models/killed", trained / "models/unhindered")
    assert project_metrics(trained, "k")["reward_after"] == project_metrics(trained, "u")["reward_after"]
    assert not (tmp_path / "asked").exists()


def project_metrics(project: Path, name: str) -> dict[str, Any]:
    return json.loads((project / f"metrics/{name}.json").read_text("utf-8"))


def write_pairs(project: Path) -> None:
    """Preference pairs from the prompts: the right letter against the next one."""
    prompts = [
        msgspec.json.decode(line, type=Prompt) for line in (project / "data/prompts.jsonl").read_bytes().splitlines()
    ]
    folder = project / "data/pairs"
    folder.mkdir(exist_ok=True)
    pairs = [
        Pair(
            id=f"{prompt.id}.wrong_answer",
            type="wrong_answer",
            prompt=prompt.prompt,
            chosen=({"role": "assistant", "content": f"<output>{prompt.answer}</output>"},),
            rejected=({"role": "assistant", "content": f"<output>{'BCDA'['ABCD'.index(prompt.answer)]}</output>"},),
            why="the next letter",
        )
        for prompt in prompts
    ]
    (folder / "train.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, pairs)))


def test_dpo_killed_ends_in_the_same_bytes(trained, changed, tmp_path, monkeypatch):
    write_pairs(trained)
    trainer = {"max_steps": 16, "logging_steps": 3, "eval_steps": 4, "save_steps": 4, "per_device_train_batch_size": 4}
    small = {"held_out": 8, "watch": {"questions": 3, "every": 4}}
    changed({"dpo": {**small, "trainer": stage_trainer("dpo") | trainer}})
    words = ("data/pairs", "models/reasoning")
    dpo.main([*words, "models/unhindered", "metrics/u.json"], standalone_mode=False)

    process = started(tmp_path, "dpo", *words, "models/killed", "metrics/k.json")
    killed(process, written(tmp_path, 8))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    dpo.main([*words, "models/killed", "metrics/k.json"], standalone_mode=False)

    assert project_metrics(trained, "k")["resumed_at"] >= 8
    assert same_bytes(trained / "models/killed", trained / "models/unhindered")
    assert not (tmp_path / "asked").exists()


class Disk:
    """A small disk of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk takes root, or `unshare -rm` before the command")

    def fill(self, but: int = 0) -> None:
        """Leave so many KiB free."""
        with open(self.folder / "filler", "ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            os.ftruncate(file.fileno(), file.tell() - but * 1024)

    def clear(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    yield found
    subprocess.run(["umount", "--lazy", str(found.folder)], capture_output=True)


@pytest.mark.parametrize("kib", [0, 256, 700], ids=["log", "weights", "optimizer"])
def test_a_disk_that_fills_during_training_is_one_line_and_the_run_goes_on_when_there_is_room(
    trained, disk, monkeypatch, kib
):
    monkeypatch.setenv("DVC_ROOT", str(disk.folder))
    words = ["reasoning", *SETS, "models/base", "models/again", "metrics/a.json"]
    filled_at(6, lambda: disk.fill(kib), monkeypatch)

    with pytest.raises(
        Fault, match=r"could not be written whole, .* are free on this disk; .* goes on from checkpoint-4$"
    ):
        sft.main(words, standalone_mode=False)
    disk.clear()
    left = [path.name for path in disk.folder.glob(".store/checkpoints/*/*/checkpoint-*")]
    sft.main(words, standalone_mode=False)

    assert left == ["checkpoint-4"]
    assert same_bytes(trained / "models/again", trained / "models/reasoning")


def filled_at(step: int, fill: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the disk before a step of the next training."""
    from transformers import Trainer

    real, steps = Trainer.training_step, []

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(True)
        if len(steps) == step:
            fill()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", training_step)


def test_a_disk_without_room_for_the_model_keeps_the_training_and_leaves_no_half_of_it(trained, disk):
    words = ["reasoning", *SETS, "models/base", str(disk.folder / "models/again"), "metrics/a.json"]
    disk.fill(100)

    with pytest.raises(Fault, match=r"models/again: a file could not be written whole, 0.1 MiB are free"):
        sft.main(words, standalone_mode=False)
    left = list((disk.folder / "models").iterdir())
    disk.clear()
    sft.main(words, standalone_mode=False)

    assert left == []
    assert json.loads(Path("metrics/a.json").read_text())["resumed_at"] == 8
    assert same_bytes(disk.folder / "models/again", trained / "models/reasoning")


STAGE = """
stages:
  sft:
    cmd: python -m train.sft reasoning {sets} models/base models/reasoning metrics/sft.json
    deps: [data, models/base]
    params: [sft.reasoning]
    outs: [models/reasoning]
    metrics: [metrics/sft.json]
"""


def test_a_killed_dvc_repro_ends_its_training_and_the_next_one_goes_on_from_the_checkpoint(project, changed, tmp_path):
    folder = tmp_path / "a project"
    long = stage_trainer("sft.reasoning") | {"max_steps": 120}  # the child is still at it when it looks for its parent
    changed({"sft": {"reasoning": {"watch": {"every": 100}, "trainer": long}}})
    words = ["reasoning", *SETS, "models/base", "models/unhindered", "metrics/u.json"]
    sft.main(words, standalone_mode=False)
    for name in ("data", "models/base"):
        shutil.copytree(project / name, folder / name)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc")
    shutil.copy(project / "params.yaml", folder)
    (folder / "dvc.yaml").write_text(STAGE.format(sets=" ".join(SETS)))
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DVC_NO_ANALYTICS": "1",
        "SHELL": "/bin/sh",
    }
    env.pop("DVC_ROOT", None)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    repro = [sys.executable, "-m", "dvc", "repro"]

    killed(
        subprocess.Popen(repro, cwd=folder, env=env, stdout=subprocess.DEVNULL),
        written(folder, 4),
    )
    (lock,) = folder.glob(".store/checkpoints/*/*/lock")
    orphan = int(lock.read_text())
    until(lambda: not Path(f"/proc/{orphan}").exists(), 10.0)
    done = subprocess.run(repro, cwd=folder, env=env, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "sft@reasoning: goes on from checkpoint-" in done.stdout
    assert same_bytes(folder / "models/reasoning", project / "models/unhindered")
