import json
from pathlib import Path

import pytest

from schemas import rows
from schemas.chat import ask
from schemas.params import ChatPrompt, load
from schemas.record import Prediction, Prompt
from train import attempt, generate
from train.answers import NONE

SMALL = {"attempt": {"max_new_tokens": 8, "batch_size": 8}}


def questions(count: int = 12) -> list[Prompt]:
    prompt = load("prompts.reasoning", ChatPrompt)
    return [
        Prompt(
            id=f"q{n}",
            prompt=ask(prompt, f"第{n}号条约是在哪一年通过的？", ("1951", "1962", "1973", "1984")),
            answer="ABCD"[n % 4],
        )
        for n in range(count)
    ]


def run(prompts: list[Prompt], name: str) -> tuple[list[Prediction], dict]:
    rows.write("asked.jsonl", prompts)
    attempt.main.callback("models/reasoning", *map(Path, ("asked.jsonl", f"{name}.jsonl", f"{name}.json")))
    with open(f"{name}.json", encoding="utf-8") as file:
        return list(rows.read(f"{name}.jsonl", Prediction)), json.load(file)


def interrupted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A run that is stopped after its first batch."""
    real, batches = generate.replies, []

    def stop_after_one(*args):
        batches.append(args)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(generate, "replies", stop_after_one)
        run(questions(), name)


def test_each_prompt_is_answered_in_order_and_the_right_ones_are_counted(trained, changed):
    changed(SMALL)

    made, figures = run(questions(), "a1")

    right = [p.strategy != NONE and p.answer == q.answer for p, q in zip(made, questions(), strict=True)]
    assert [p.id for p in made] == [f"q{n}" for n in range(12)]
    assert (figures["n"], figures["right"], figures["accuracy"]) == (12, sum(right), round(sum(right) / 12, 4))
    assert sum(figures["strategies"].values()) == 12
    assert not list((trained / ".store/checkpoints/attempt").iterdir())


def test_an_answer_that_was_drawn_for_want_of_one_is_not_right(trained, changed, monkeypatch):
    changed(SMALL)
    monkeypatch.setattr(generate, "replies", lambda _, __, batch, ___: [(n, "不知道") for n in batch.indexes])

    made, figures = run(questions(), "a2")

    assert {p.strategy for p in made} == {NONE}
    assert any(p.answer == q.answer for p, q in zip(made, questions(), strict=True))
    assert figures["right"] == 0


def test_an_interrupted_run_goes_on_with_its_replies(trained, changed, monkeypatch):
    changed(SMALL)
    interrupted(monkeypatch, "a3")

    gone_on, figures = run(questions(), "a3")

    assert figures["reused"] == 8
    assert gone_on == run(questions(), "a4")[0]


def test_other_prompts_do_not_get_the_replies_of_an_interrupted_run(trained, changed, monkeypatch):
    changed(SMALL)
    interrupted(monkeypatch, "a5")

    assert run(questions(9), "a6")[1]["reused"] == 0
