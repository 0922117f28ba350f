import csv
import json
import os

import pytest
from click.testing import CliRunner

from curate import convert as stage
from curate.convert import example, question
from schemas.params import ChatPrompt
from schemas.record import Example, Message, Prompt
from schemas.rows import read, write
from tests.curate.builders import a_record, many_records

PROMPT = ChatPrompt(system="系统", user="问题：{question}\n{options}", option="{letter}. {text}")
FILES = {
    "sft.reasoning.train.jsonl",
    "sft.plain.train.jsonl",
    "sft.reasoning.validation.jsonl",
    "sft.plain.validation.jsonl",
    "grpo.jsonl",
    "test.csv",
    "key.csv",
    "bank.tsv",
    "bank.parquet",
}


@pytest.fixture
def sets(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    records = many_records(10)
    records[9] = a_record(id="9", question='引号"、逗号, 与\n换行\u2028？', adjustment="改")
    for name, rows in (
        ("train", records[:5]),
        ("rollout", records[5:6]),
        ("validation", records[6:8]),
        ("test", records[8:]),
    ):
        write(f"{name}.jsonl", rows)

    result = CliRunner().invoke(
        stage.main,
        ["train.jsonl", "rollout.jsonl", "validation.jsonl", "test.jsonl", "sets", "metrics.json"],
        catch_exceptions=False,
    )

    assert result.output == "convert: 10 records in 9 files of sets\n"
    return a_project / "sets"


def test_an_example_ends_with_the_chosen_parts_or_the_letter():
    record = a_record()

    asked = Message(
        role="user", content="问题：《巴黎协定》是在哪一年通过的？\nA. 2012年\nB. 2015年\nC. 2016年\nD. 2018年"
    )
    assert example(record, PROMPT, ()).messages == (
        Message(role="system", content="系统"),
        asked,
        Message(role="assistant", content="B"),
    )
    assert example(record, PROMPT, ("output",)).messages[-1].content == "<output>B</output>"
    assert question(record, PROMPT).prompt[-1] == asked
    assert question(record, PROMPT).answer == "B"


def test_a_question_with_braces_is_put_as_it_is():
    assert "集合{1}" in question(a_record(question="集合{1}有几个元素？"), PROMPT).prompt[-1].content


def test_all_files_are_written_with_their_rows(sets):
    assert {path.name for path in sets.iterdir()} == FILES
    numbers = json.loads((sets.parent / "metrics.json").read_text())
    assert numbers == {
        name: {
            "sft.reasoning.train.jsonl": 20,
            "sft.plain.train.jsonl": 20,
            "sft.reasoning.validation.jsonl": 2,
            "sft.plain.validation.jsonl": 2,
            "grpo.jsonl": 1,
            "test.csv": 2,
            "key.csv": 2,
        }.get(name, 10)
        for name in FILES
    }
    assert len(list(read(sets / "sft.reasoning.train.jsonl", Example))) == 20
    assert len(list(read(sets / "grpo.jsonl", Prompt))) == 1


def test_the_test_file_has_no_answers_and_the_key_has(sets):
    with open(sets / "test.csv", newline="", encoding="utf-8") as file:
        test = list(csv.DictReader(file))
    with open(sets / "key.csv", newline="", encoding="utf-8") as file:
        key = list(csv.DictReader(file))

    assert list(test[0]) == ["id", "question", "option_A", "option_B", "option_C", "option_D"]
    assert test[1]["question"] == '引号"、逗号, 与\n换行\u2028？'
    assert key[1] == {"id": "9", "answer": "B", "topic": "environment", "difficulty": "basic", "type": "factual"}
    assert [row["id"] for row in test] == [row["id"] for row in key]


def test_parquet_holds_every_field_and_the_side(sets):
    import pyarrow.parquet as pq

    rows = pq.read_table(sets / "bank.parquet").to_pylist()

    assert [row["split"] for row in rows] == ["train"] * 5 + ["rollout"] + ["validation"] * 2 + ["test"] * 2
    last = rows[-1]
    assert (last["id"], last["adjustment"], last["repairs"]) == ("9", "改", [])
    assert tuple(last["options"]) == a_record().options
    assert {
        "question",
        "steps",
        "think",
        "reflection",
        "answer",
        "topic",
        "difficulty",
        "type",
        "teacher",
    } <= last.keys()


@pytest.mark.parametrize("name", sorted(FILES))
def test_datasets_loads_a_file_as_it_is(sets, name, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    import datasets

    form = {"jsonl": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}[name.rpartition(".")[2]]
    options = {"sep": "\t"} if name.endswith("tsv") else {}

    rows = datasets.load_dataset(
        form, data_files=str(sets / name), split="train", cache_dir=str(tmp_path / "cache"), **options
    )

    assert len(rows) == json.loads((sets.parent / "metrics.json").read_text())[name]
