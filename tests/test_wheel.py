"""The wheel turned once: a teacher's questions, an author trained on them and served, its round, the audit."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from curate import audit, validate
from datagen import generate
from schemas import chat, profile, rows
from schemas.params import AuthorPrompt, Topic, Wording, load
from schemas.record import Example, Record, Response
from tests.curate.versions import Project, a_bank
from tests.datagen.conftest import until

ROOT = Path(__file__).parents[1]
BANK = ("data/responses", "data/validated.jsonl", "data/rejects/validate.jsonl", "metrics/validate.json")
CALLS = 12  # two difficulties, two types, three samples
SMALL = {"vocabulary": 600, "names": 50, "numbers": 100, "layers": 2, "hidden": 64, "intermediate": 128}
STEPS = 100


def change(values: dict[str, Any]) -> None:
    document = profile.merged(profile.read(Path("params.yaml")), values)
    Path("params.yaml").write_text(profile.text(document), encoding="utf-8")


def asked() -> Result:
    """Ask for a round of the only topic."""
    return CliRunner().invoke(generate.main, ["algebra", "data/responses/algebra.jsonl", "metrics/algebra.json"])


def kept(project: Project, tag: str) -> list[Record]:
    """Check what was replied and commit what is kept as the bank."""
    done = CliRunner().invoke(validate.main, list(BANK), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    records = list(rows.read(Path(BANK[1]), Record))
    outs = {path: (project.folder / path).read_bytes() for path in ("data/responses/algebra.jsonl", BANK[2])}
    settings = {section: profile.read(Path("params.yaml"))[section] for section in ("generate", "teachers")}
    project.commit(tag, a_bank({"author": records}) | outs, params=json.loads(json.dumps(settings)))
    return records


def train(records: list[Record], out: Path) -> None:
    """Have a tiny model learn by heart to write these questions, every other one after its solution."""
    import torch
    from transformers import AutoModelForCausalLM

    from train import base
    from train import model as models

    prompt = load("prompts.author", AuthorPrompt)
    names = {
        slug: one.name
        for section, type_ in (("topics", Topic), ("difficulties", Wording), ("types", Wording))
        for slug, one in load(section, dict[str, type_]).items()
    }
    chats = []
    for n, record in enumerate(records):
        told = chat.commission(prompt, *(names[slug] for slug in (record.topic, record.difficulty, record.type)))
        chats.append(Example(id=record.id, messages=(*told, chat.authored(record, thinking=n % 2 == 0))))
    rows.write(Path("chats.jsonl"), chats)
    rows.write(Path("records.jsonl"), records)
    base.make(
        "author_base", Path("records.jsonl"), [Path("chats.jsonl")], Path("models/base"), Path("metrics/base.json")
    )
    tokenizer, network = models.read_tokenizer("models/base"), AutoModelForCausalLM.from_pretrained("models/base")
    before = [models.asking([c.messages[:-1]], tokenizer, n % 2 == 0)[0] for n, c in enumerate(chats)]
    whole = [text + c.messages[-1].content + tokenizer.eos_token for text, c in zip(before, chats, strict=True)]
    batch = tokenizer(whole, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for row, ids in zip(labels, models.token_ids(tokenizer, before), strict=True):
        row[: len(ids)] = -100
    torch.manual_seed(0)
    descent = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.0)
    slower = torch.optim.lr_scheduler.LambdaLR(descent, lambda step: min((step + 1) / 10, 3 * (1 - step / STEPS), 1.0))
    for _ in range(STEPS):
        descent.zero_grad()
        network(**batch, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        descent.step()
        slower.step()
    network.save_pretrained(out)
    tokenizer.save_pretrained(out)


def serve(model: Path, log: Path) -> "subprocess.Popen[bytes]":
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "train", "author_serve", str(model), "--port", "0", "--engine", "transformers"],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
    until(lambda: server.poll() is not None or b"Uvicorn running on" in log.read_bytes(), seconds=120.0)
    assert server.poll() is None, log.read_text("utf-8")
    return server


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project after a round of the embedded teacher's, v1, and one of an author's that was trained on it, v2."""
    project = Project(tmp_path_factory.mktemp("wheel") / "p")
    with chdir(project.folder), pytest.MonkeyPatch.context() as environment:
        environment.setenv("AUTHOR_API_KEY", "any")
        for name in ("DATAGEN_STORE", "DVC_ROOT", "DVC_STAGE"):
            environment.delenv(name, raising=False)
        document = profile.read(ROOT / "params.yaml")
        for section, slugs in (
            ("topics", ["algebra"]),
            ("difficulties", ["basic", "intermediate"]),
            ("types", ["factual", "conceptual"]),
        ):
            document[section] = {slug: document[section][slug] for slug in slugs}
        Path("params.yaml").write_text(profile.text(document), encoding="utf-8")
        change({"topics": {"algebra": {"samples": 3}}, "author_base": SMALL, "workers": {"processes": 1}})
        assert asked().exit_code == 0
        train(kept(project, "v1"), Path("models/author"))
        server = serve(Path("models/author"), Path("log"))
        try:
            printed = re.findall(r"^    (\w+: .*)$", Path("log").read_text("utf-8"), re.MULTILINE)
            wanted = profile.read(ROOT / "profiles/author.yaml")
            wanted["topics"] = {}
            wanted["teachers"]["author"] |= YAML(typ="safe").load("\n".join(printed))
            wanted["teachers"]["author"]["extra"]["chat_template_kwargs"]["enable_thinking"] = True
            wanted["teachers"]["author"]["temperature"] = 0.3
            change(wanted)
            done = asked()
            assert done.exit_code == 0, done.stderr
            kept(project, "v2")
        finally:
            server.terminate()
            server.wait()
        yield project


def test_every_request_of_the_round_was_answered_by_the_author(turned: Project) -> None:
    replies = list(rows.read(turned.folder / "data/responses/algebra.jsonl", Response))

    assert len(replies) == CALLS
    assert all(re.fullmatch(r"author@[0-9a-f]{12} @ http://127\.0\.0\.1:\d+/v1", row.teacher) for row in replies)


def test_its_replies_came_whole_thoughts_and_all(turned: Project) -> None:
    replies = [row.content for row in rows.read(turned.folder / "data/responses/algebra.jsonl", Response)]

    assert sum(reply.startswith("<think>\n") and reply.count("<think>") == 2 for reply in replies) >= CALLS / 2


def test_some_of_its_questions_are_kept_their_thoughts_taken_off(turned: Project) -> None:
    records = list(rows.read(turned.folder / BANK[1], Record))

    assert len(records) >= CALLS / 2
    assert {record.teacher.partition("@")[0] for record in records} == {"author"}
    assert any(record.repairs == ("thoughts",) for record in records)


def test_the_same_round_is_not_asked_for_again(turned: Project) -> None:
    with chdir(turned.folder):
        done = asked()  # nobody answers any more

    assert done.exit_code == 0
    assert "0 asked now" in done.stderr


def test_the_audit_names_the_teacher_as_the_cause(turned: Project) -> None:
    with chdir(turned.folder):
        told = CliRunner().invoke(audit.main, ["v1", "v2"], catch_exceptions=False).output

    assert 'generate.teacher "main" → "author"' in told
    assert 'generate.prompt "write" → "author"' in told
    assert "no cause found" not in told
