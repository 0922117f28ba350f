import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from msgspec.structs import asdict, replace

from datagen.teacher.mathematics.compose import compose
from schemas import chain, profile, rows
from schemas.chain import MARKS, write
from schemas.chat import authored
from schemas.faults import Fault
from schemas.record import Commission, Example, Item, Record
from schemas.repair import split_thoughts
from tests.datagen.builders import handed_over, scripted
from tests.datagen.conftest import serving, until
from tests.train.conftest import ROOT, run
from tests.train.test_survive import begun, killed, same_bytes, started
from train import author_distill, author_sft
from train.author.rounds import Round, Sample
from train.author_distill import Near

FEW = ("data/few/train.jsonl", "data/few/train.jsonl", "data/few/prompts.jsonl")
SMALL: dict[str, Any] = {
    "fixed": [],
    "held_out": 1,
    "samples": 1,
    "rounds": 2,
    "questions": 2,
    "vary_every": 2,
    "sampling": {"max_new_tokens": 256, "temperature": 0.3, "batch_size": 8},
    "watch": {"questions": 0, "every": 8},
}
TRAINER = {
    "max_length": 640,
    "max_steps": 8,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-4,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "logging_steps": 2,
    "save_steps": 2,
}
LEARNING = TRAINER | {"max_steps": 80, "per_device_train_batch_size": 6, "learning_rate": 5e-3, "save_steps": 80}


class Teacher:
    """Marks everything low in one respect, improves it by a word, varies it as another question; one call at a time."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.seconds = 0.05
        """What a call takes, so that one can be cut off."""

    def __call__(self, first: str, again: int) -> str:
        found = re.search(r"^任务：.*（([a-z]+)）$", first, re.MULTILINE)
        assert found
        self.heard.append(first)
        time.sleep(self.seconds)
        item = handed_over(first)
        if found[1] == "judge":
            marks = "".join(f"<{name}>{2 if name == 'innovation' else 4}</{name}>" for name in MARKS)
            return f"<judgement>{marks}<feedback>先说条件。</feedback></judgement>"
        if found[1] == "improve":
            return write(replace(item, think=f"{item.think}先看条件。"))
        return write(compose("algebra", "basic", "factual", len(first), full=False))


@pytest.fixture(scope="module")
def fluent(author_project: Path) -> Iterator[Path]:
    """The project with models/fluent: an author that knows three questions by heart."""
    chats = list(rows.read("data/mix/train.jsonl", Example))[:3]
    told = [commission for commission in rows.read("data/mix/prompts.jsonl", Commission) if "basic" in commission.id]
    rows.write(FEW[0], [*chats, *map(the_other_way, chats)])
    rows.write(FEW[2], told)
    path = Path("params.yaml")
    before = path.read_text("utf-8")
    small = {"fixed": [], "questions": 1, "watch": {"questions": 0, "every": 500}, "trainer": LEARNING}
    merged = profile.merged(profile.read(path), {"author_sft": small, "author_distill": SMALL | {"trainer": TRAINER}})
    path.write_text(profile.text(merged), encoding="utf-8")
    run(author_sft.main, *FEW, "models/author_base", "models/fluent", "metrics/fluent.json")
    yield author_project
    path.write_text(before, encoding="utf-8")


@pytest.fixture(scope="module")
def taught(fluent: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teacher]:
    """The teacher on a port, named `main` in params.yaml, after models/taught was made by it."""
    path, teacher = Path("params.yaml"), Teacher()
    with pytest.MonkeyPatch.context() as patch, serving(scripted(teacher)) as base_url:
        for name, value in {"OPENAI_API_KEY": "none", "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        asked = {"teachers": {"main": {"base_url": base_url}}, "limits": {"concurrency": 1, "attempts": 1}}
        path.write_text(profile.text(profile.merged(profile.read(path), asked)), encoding="utf-8")
        with pytest.MonkeyPatch.context() as there:
            there.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("taught")))
            run(author_distill.main, *stage("taught"))
        yield teacher


def the_other_way(chat: Example) -> Example:
    """The same question written at once, or after its solution."""
    *asked, reply = chat.messages
    item = chain.parse(split_thoughts(reply.content)[1])
    assert isinstance(item, Item)
    other = authored(item, thinking=not reply.content.startswith("<think>"))
    return Example(id=f"{chat.id}'", messages=(*asked, other))


def astray(model: str, out: str) -> None:
    """A model's copy, its weights a little off."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, out)
    torch.manual_seed(0)
    off = {name: w + 0.3 * w.std() * torch.randn_like(w) for name, w in load_file(f"{model}/model.safetensors").items()}
    save_file(off, f"{out}/model.safetensors", metadata={"format": "pt"})


def stage(name: str) -> tuple[str, ...]:
    return (*FEW, "models/fluent", f"models/{name}", f"metrics/{name}.json")


def figures(name: str) -> dict[str, Any]:
    return json.loads(Path(f"metrics/{name}.json").read_text("utf-8"))


def test_the_author_writes_the_teacher_judges_and_improves_and_the_author_learns(taught):
    found = figures("taught")

    first, second = found["rounds"]
    assert found["steps"] == 8
    assert (first["written"], first["mean"], first["marks"]["innovation"]) == (4, 3.6, 2.0)
    assert 0 < first["improved"] == first["sent"] == first["judged"] == first["finished"] <= 4
    assert (first["varied"], second["varied"]) == (0, 3 * second["finished"])
    assert first["learned"]["write"] == first["learned"]["improve"] > 0
    assert second["learned"]["vary"] > 0
    assert sum(first["learned"].values()) + first["replayed"] == 16
    assert first["asked_now"] + first["from_store"] == first["judged"] + first["improved"]


def test_it_is_looked_at_before_and_after_on_held_out_commissions(taught):
    found = figures("taught")

    assert found["before"]["n"] == found["after"]["n"] == 2
    assert set(found["gain"]) == {"sent", "approved"}
    samples = list(rows.read("models/taught/samples.jsonl", Sample))
    assert {one.mean for one in samples} <= {3.6, None}
    assert len({one.id for one in samples}) == 1


def test_killed_twice_it_goes_on_in_its_round_asks_nothing_twice_and_is_the_same_author(taught, tmp_path, monkeypatch):
    unhindered, taught.heard = taught.heard, []
    words = stage("killed")

    killed(started(tmp_path, "author_distill", *words), lambda: len(taught.heard) > len(unhindered) // 4)
    first = len(taught.heard)
    killed(started(tmp_path, "author_distill", *words), begun(tmp_path, 6))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    run(author_distill.main, *words)

    assert first < len(unhindered)
    assert sorted(taught.heard) == sorted(unhindered)
    assert len(set(taught.heard)) == len(taught.heard)
    assert same_bytes(Path("models/killed"), Path("models/taught"))
    assert figures("killed")["resumed_at"] >= 4
    assert [one["mean"] for one in figures("killed")["rounds"]] == [one["mean"] for one in figures("taught")["rounds"]]
    assert not list((tmp_path / ".store/checkpoints/author_distill").iterdir())


def test_ctrl_c_reaches_the_asking_which_says_what_is_left(taught, tmp_path):
    taught.heard, taught.seconds = [], 0.5
    of = Round(tmp_path)
    place = {"topic": "algebra", "difficulty": "basic", "type": "factual", "teacher": "test", "repairs": ()}
    items = [compose("algebra", "basic", "factual", seed, full=False) for seed in range(4)]
    rows.write(of.path("records"), [Record(**asdict(item), **place, id=f"r{n}") for n, item in enumerate(items)])
    words = "'judge', 'judged', 'records'"
    asking = f"from train.author.rounds import *; Round(Path({str(tmp_path)!r})).ask('author_distill', {words})"
    env = os.environ | {"DVC_ROOT": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", asking], env=env, stderr=subprocess.PIPE, text=True)

    until(lambda: len(taught.heard) == 1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    taught.seconds = 0.05

    assert process.returncode == 130
    assert "judge: interrupted; 1 of 4 are in the store, 3 are left; the same command goes on from there" in said
    assert len(taught.heard) == 1
    assert not of.path("judged").exists()


def test_a_teacher_that_fails_stops_it_with_a_line_of_its_own(taught, tmp_path, changed, monkeypatch, capfd):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    changed({"teachers": {"main": {"base_url": "http://127.0.0.1:9/v1"}}})

    with pytest.raises(SystemExit) as ended:
        run(author_distill.main, *stage("alone"))

    assert ended.value.code == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"judge: 0 of \d+ valid, .*'127\.0\.0\.1', 9.*", said)
    assert not Path("models/alone").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"judge": {"teacher": "mian"}}, r"author_distill\.judge\.teacher: no teacher 'mian'; did you mean main\?"),
        ({"rounds": 3}, r"trainer\.max_steps: 8 steps are not 3 equal rounds"),
        ({"held_out": 3}, "held_out: 3, but there are 3 commissions"),
        ({"accelerate": "profiles/accelerate/ddp.yaml"}, "accelerate: one process writes, asks and learns"),
        ({"thinking": []}, r"author_distill\.thinking: \[\]; take true, false or both"),
        ({"trainer": TRAINER | {"packing": True}}, "trainer.packing: a round is so many rows"),
        ({"local_teacher": "models/fluent"}, "local_teacher: is for method on_policy"),
        ({"method": "on_policy", "trainer": {"use_cpu": True}}, "local_teacher: null; on_policy needs a model at hand"),
        (
            {"method": "on_policy", "local_teacher": "models/base", "trainer": {"use_cpu": True}},
            "local_teacher: models/base has other tokens than models/fluent",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anybody_is_asked(fluent, changed, change, said):
    changed({"author_distill": change})

    with pytest.raises(Fault, match=said):
        run(author_distill.main, *stage("never"))


def test_no_commissions_are_a_fault(fluent, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("")

    with pytest.raises(Fault, match="no rows to write for"):
        run(author_distill.main, *FEW[:2], tmp_path / "prompts.jsonl", *stage("never")[3:])


def test_on_policy_the_author_comes_nearer_to_a_teacher_at_hand_and_interrupted_it_comes_as_near(
    fluent, changed, monkeypatch, tmp_path
):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    alone = {name: value for name, value in TRAINER.items() if name != "max_length"}
    trainer = alone | {"max_steps": 16, "max_completion_length": 48, "learning_rate": 1e-3, "save_steps": 6}
    sampling = {"max_new_tokens": 48, "temperature": 1.0}
    local = {
        "method": "on_policy",
        "local_teacher": "models/fluent",
        "samples": 8,
        "sampling": sampling,
        "trainer": trainer,
    }
    changed({"author_distill": local})
    astray("models/fluent", "models/astray")

    run(author_distill.main, *FEW, "models/astray", "models/near", "metrics/near.json")
    interrupted_at(14, monkeypatch)
    with pytest.raises(click.Abort):
        run(author_distill.main, *FEW, "models/astray", "models/again", "metrics/again.json")
    run(author_distill.main, *FEW, "models/astray", "models/again", "metrics/again.json")

    found = figures("near")
    assert found["steps"] == 16
    assert found["divergence_after"]["mean"] < 0.8 * found["divergence_before"]["mean"]
    assert len(list(rows.read("models/near/samples.jsonl", Near))) == 16  # 8 for each of 2 commissions, few are noise
    assert figures("again")["resumed_at"] == 12
    assert same_bytes(Path("models/again"), Path("models/near"))


def interrupted_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C come in a step of the next training."""
    from transformers import Trainer

    real, steps = Trainer.training_step, []

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(True)
        if len(steps) == step:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", training_step)
