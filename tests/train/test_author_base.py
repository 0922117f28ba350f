import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from schemas import rows
from schemas.chat import authored
from schemas.record import Example, Item, Message, Record
from train import author_base

ITEM = {
    "question": "求9x-18=18的解。",
    "options": ("0", "36", "4", "27"),
    "think": "一元一次方程。",
    "steps": ("9x=36", "x=4（C）"),
    "reflection": "移项要变号。",
    "adjustment": None,
    "answer": "C",
}
PLACE = {"id": "1", "topic": "algebra", "difficulty": "basic", "type": "factual", "teacher": "t", "repairs": ()}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The tokenizer of an author's base, made of one question."""
    from transformers import AutoTokenizer

    params = YAML(typ="safe", pure=True).load(Path("params.yaml").read_text("utf-8"))
    with open(tmp_path / "params.yaml", "w", encoding="utf-8") as file:
        YAML().dump(params, file)
    monkeypatch.chdir(tmp_path)
    rows.write("author.jsonl", [Record(**ITEM, **PLACE)])
    asked = Message(role="user", content="写一道基础的代数题，事实性。")
    rows.write("mix.jsonl", [Example(id="1", messages=(asked, authored(Item(**ITEM), thinking=True)))])
    done = CliRunner().invoke(
        author_base.main, ["author.jsonl", "mix.jsonl", "base", "base.json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return AutoTokenizer.from_pretrained("base")


@pytest.mark.parametrize("tag", ["<item>", "</question>", "<options>", "<A>", "</D>", '<step n="2">', "</think>"])
def test_the_markup_of_an_item_is_one_token_a_tag(made, tag):
    assert len(made.tokenize(tag)) == 1


def test_thinking_turned_off_puts_empty_thoughts_into_the_prompt(made):
    asked = [{"role": "user", "content": "写"}]

    texts = [
        made.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, **switch)
        for switch in ({}, {"enable_thinking": True}, {"enable_thinking": False})
    ]

    assert texts[0] == texts[1] == "<|im_start|>user\n写<|im_end|>\n<|im_start|>assistant\n"
    assert texts[2] == texts[1] + "<think>\n\n</think>\n\n"


def test_its_figures_are_written(made):
    assert json.loads(Path("base.json").read_bytes())["chats"] == 1
