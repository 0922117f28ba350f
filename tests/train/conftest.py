"""A tiny world for the training stages: made-up facts, the project's own params with fewer steps."""

import csv
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datagen.teacher.mathematics.compose import compose
from schemas import profile
from schemas.chat import ask, authored, commission, reply
from schemas.params import AuthorPrompt, ChatPrompt, load
from schemas.record import LETTERS, Commission, Example, Item, Message, Pair, Prompt, Record

ROOT = Path(__file__).parents[2]
SMALL = {
    "base": {
        "vocabulary": 400,
        "names": 20,
        "numbers": 60,
        "layers": 2,
        "hidden": 64,
        "intermediate": 128,
        "positions": 192,
    },
    "sft": {
        variant: {
            "questions": 8,
            "sampling": {"max_new_tokens": 8, "batch_size": 8},
            "watch": {"questions": 4, "every": 2},
            "trainer": {
                "max_length": 160,
                "max_steps": 8,
                "per_device_train_batch_size": 8,
                "learning_rate": 2e-3,
                "bf16": False,
                "gradient_checkpointing": False,
                "use_cpu": True,
                "logging_steps": 2,
                "save_steps": 4,
            },
        }
        for variant in ("plain", "reasoning")
    },
    "grpo": {
        "max_prompt": 160,
        "held_out": 4,
        "samples": 2,
        "watch": {"questions": 3, "every": 1},
        "trainer": {
            "max_steps": 2,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 12,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "logging_steps": 1,
            "save_steps": 1,
        },
    },
    "dpo": {
        "types": ["wrong_answer", "student_error"],
        "held_out": 4,
        "sampling": {"max_new_tokens": 8, "batch_size": 8},
        "watch": {"questions": 3, "every": 2},
        "trainer": {
            "max_length": 160,
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "beta": 0.1,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "logging_steps": 1,
            "save_steps": 2,
        },
    },
    "author_base": {
        "vocabulary": 400,
        "names": 20,
        "numbers": 60,
        "layers": 2,
        "hidden": 64,
        "intermediate": 128,
        "positions": 384,
    },
    "author_sft": {
        "fixed": ["algebra/basic/factual", "algebra/advanced/factual"],
        "questions": 6,
        "sampling": {"max_new_tokens": 24, "batch_size": 8},
        "watch": {"questions": 2, "every": 3},
        "trainer": {
            "max_length": 384,
            "max_steps": 6,
            "per_device_train_batch_size": 8,
            "learning_rate": 2e-3,
            "bf16": False,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "logging_steps": 2,
            "save_steps": 3,
        },
    },
    "author_report": {
        "questions": 4,
        "originals": 2,
        "sampling": {"max_new_tokens": 8, "batch_size": 8},
    },
    "predict": {variant: {"max_new_tokens": 8, "batch_size": 8} for variant in ("plain", "reasoning", "grpo")},
}


def items(count: int) -> list[Item]:
    """Questions that ask for the year of a made-up treaty."""
    draw = random.Random(3)
    made = []
    for n in range(count):
        years = draw.sample(range(1950, 1990), 4)
        letter = draw.choice(LETTERS)
        right = years[LETTERS.index(letter)]
        made.append(
            Item(
                question=f"第{n}号条约是在哪一年通过的？",
                options=tuple(str(year) for year in years),  # type: ignore[arg-type]
                think="",
                steps=(f"第{n}号条约于{right}通过",),
                reflection="",
                adjustment=None,
                answer=letter,
            )
        )
    return made


def write_sets(folder: Path, prompts: dict[str, ChatPrompt]) -> None:
    """The files that curation hands over, with its names."""
    folder.mkdir(parents=True)
    every = items(72)
    parts = {"train": every[:48], "validation": every[48:56]}
    encode = msgspec.json.encode
    for variant, kept in (("plain", ()), ("reasoning", ("reasoning", "output"))):
        for part, chosen in parts.items():
            rows = [
                Example(id=f"{part}{n}", messages=(*ask(prompts[variant], i.question, i.options), reply(i, kept)))
                for n, i in enumerate(chosen)
            ]
            (folder / f"sft.{variant}.{part}.jsonl").write_bytes(b"\n".join(map(encode, rows)))
    bank = [
        Record(
            id=f"train{n}",
            topic="economy",
            difficulty="basic",
            type="factual",
            teacher="test",
            repairs=(),
            **msgspec.structs.asdict(i),
        )
        for n, i in enumerate(parts["train"])
    ]
    (folder / "train.jsonl").write_bytes(b"\n".join(map(encode, bank)))
    asked = [
        Prompt(id=f"p{n}", prompt=ask(prompts["reasoning"], i.question, i.options), answer=i.answer)
        for n, i in enumerate(parts["train"])
    ]
    (folder / "prompts.jsonl").write_bytes(b"\n".join(map(encode, asked)))
    (folder / "pairs").mkdir()
    (folder / "pairs/train.jsonl").write_bytes(b"\n".join(map(encode, pairs(parts["train"], prompts["reasoning"]))))
    test = every[56:]
    with open(folder / "test.csv", "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "question", "option_A", "option_B", "option_C", "option_D"])
        out.writerows([f"t{n}", i.question, *i.options] for n, i in enumerate(test))
    with open(folder / "key.csv", "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "answer", "topic", "difficulty", "type"])
        out.writerows([f"t{n}", i.answer, "economy", "basic", "factual"] for n, i in enumerate(test))


def write_mix(folder: Path, prompt: AuthorPrompt) -> None:
    """What the stage `mix` hands over: questions of algebra, every other one after its solution, and their cells."""
    folder.mkdir(parents=True)
    cells = [(level, kind) for level in ("basic", "advanced") for kind in ("factual", "conceptual", "evaluative")]
    told = {cell: commission(prompt, "代数", *cell) for cell in cells}
    found = [(cell, compose("algebra", *cell, seed, full=False)) for seed in range(12) for cell in cells]
    chats = [
        Example(id=f"a{n}", messages=(*told[cell], authored(item, thinking=n % 2 == 0)))
        for n, (cell, item) in enumerate(found)
    ]
    commissions = [
        Commission(
            id="/".join(("algebra", *cell)), topic="algebra", difficulty=cell[0], type=cell[1], prompt=told[cell]
        )
        for cell in cells
    ]
    place = {"topic": "algebra", "teacher": "test", "repairs": ()}
    records = [
        Record(id=f"a{n}", difficulty=cell[0], type=cell[1], **place, **msgspec.structs.asdict(item))
        for n, (cell, item) in enumerate(found)
    ]
    rows = {"train": chats[:64], "validation": chats[64:], "prompts": commissions, "author": records}
    for name, some in rows.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in some))


def pairs(of: Iterable[Item], prompt: ChatPrompt) -> list[Pair]:
    """Two pairs for each question: its chain against one to another answer, and against no chain."""
    made = []
    for n, item in enumerate(of):
        wrong = LETTERS[(LETTERS.index(item.answer) + 1) % 4]
        steps = (item.steps[0].replace(item.options[LETTERS.index(item.answer)], item.options[LETTERS.index(wrong)]),)
        other = msgspec.structs.replace(item, steps=steps, answer=wrong)
        for type_, rejected in (
            ("wrong_answer", reply(other, ("reasoning", "output"))),
            ("format", Message(role="assistant", content=item.answer)),
        ):
            made.append(
                Pair(
                    id=f"q{n}.{type_}",
                    type=type_,  # type: ignore[arg-type]
                    prompt=ask(prompt, item.question, item.options),
                    chosen=(reply(item, ("reasoning", "output")),),
                    rejected=(rejected,),
                    why="made up",
                )
            )
    return made


def run(command: Any, *args: object) -> None:
    """Run a stage's `main` as the command line does, faults raised."""
    command([str(arg) for arg in args], standalone_mode=False)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder, current for the session's tests, with its base model made."""
    from train import base

    folder = tmp_path_factory.mktemp("project")
    merged = profile.merged(profile.read(ROOT / "params.yaml"), SMALL)
    (folder / "params.yaml").write_text(profile.text(merged), encoding="utf-8")
    prompts = {name: load(f"prompts.{name}", ChatPrompt, folder / "params.yaml") for name in ("plain", "reasoning")}
    write_sets(folder / "data", prompts)
    with chdir(folder):
        run(
            base.main,
            "data/train.jsonl",
            "data/sft.reasoning.train.jsonl",
            "data/sft.plain.train.jsonl",
            "models/base",
            "metrics/base.json",
        )
        yield folder


@pytest.fixture(scope="session")
def trained(project: Path) -> Path:
    """The project after sft@reasoning."""
    from train import sft

    run(sft.main, "reasoning", *SETS, "models/base", "models/reasoning", "metrics/sft.reasoning.json")
    return project


@pytest.fixture(scope="session")
def author_project(project: Path) -> Path:
    """The project with the author's mix in data/mix and its base model in models/author_base."""
    from train import author_base

    write_mix(project / "data/mix", load("prompts.author", AuthorPrompt))
    run(author_base.main, "data/mix/author.jsonl", "data/mix/train.jsonl", "models/author_base", "metrics/a.json")
    return project


@pytest.fixture(scope="session")
def author_trained(author_project: Path) -> Path:
    """The project after author_sft."""
    from train import author_sft

    run(author_sft.main, *MIX, "models/author_base", "models/author_sft", "metrics/author_sft.json")
    return author_project


@pytest.fixture
def changed(project: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Change params.yaml for one test."""
    before = (project / "params.yaml").read_text(encoding="utf-8")

    def change(values: dict[str, Any]) -> None:
        path = project / "params.yaml"
        path.write_text(profile.text(profile.merged(profile.read(path), values)), encoding="utf-8")

    yield change
    (project / "params.yaml").write_text(before, encoding="utf-8")


SETS = ("data/sft.reasoning.train.jsonl", "data/sft.reasoning.validation.jsonl")
MIX = ("data/mix/train.jsonl", "data/mix/validation.jsonl", "data/mix/prompts.jsonl")
