import csv
import json
from functools import partial

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner
from huggingface_hub import DatasetCard

from curate import convert as stage
from curate.balance import orders
from curate.convert import (
    SETS,
    ConvertParams,
    PromptsParams,
    convert,
    example,
    language_of,
    quantiles,
    question,
)
from curate.shards import WorkersParams
from schemas.chain import render
from schemas.chat import asking
from schemas.export import document
from schemas.faults import Fault
from schemas.params import ChatPrompt, load
from schemas.record import LETTERS, Message
from schemas.rows import write
from tests.curate.builders import a_record, many_records

PROMPT = ChatPrompt(system="系统", user="问题：{question}\n{options}", option="{letter}. {text}")
ARGUMENTS = ["train.jsonl", "rollout.jsonl", "validation.jsonl", "test.jsonl", "author.jsonl", "sets", "metrics.json"]
SIDES = ("train", "rollout", "validation", "test", "author")
HERE = WorkersParams(processes=1, ray=None)
ODD = ("NA", "007", '=1+1\t"甲"', "空 格\r\n\u2028 ")
FILES = {
    "sft_reasoning/train.jsonl": 10,
    "sft_reasoning/validation.jsonl": 2,
    "sft_plain/train.jsonl": 10,
    "sft_plain/validation.jsonl": 2,
    "rollout/train.jsonl": 1,
    "test/test.csv": 2,
    "key/key.csv": 2,
    "table/bank.tsv": 11,
    "bank/train.parquet": 5,
    "bank/rollout.parquet": 1,
    "bank/validation.parquet": 2,
    "bank/test.parquet": 2,
    "bank/author.parquet": 1,
}


def ten_records():
    records = many_records(11)
    records[4] = a_record(
        id="04", options=ODD, think="\u2028\r换行\n", repairs=("fence",), teacher="other @ http://x:1"
    )
    records[9] = a_record(
        id="09", options=ODD, question='引号"、逗号, 与\n换行\u2028？', adjustment="改", reflection=""
    )
    return {
        "train": records[:5],
        "rollout": records[5:6],
        "validation": records[6:8],
        "test": records[8:10],
        "author": records[10:],
    }


def write_sides(sides):
    for side in SIDES:
        write(f"{side}.jsonl", sides.get(side, []))
    return {side: f"{side}.jsonl" for side in SIDES}


def plain(row):
    return json.loads(msgspec.json.encode(row))


def made(folder):
    """The bytes of every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def project(a_project, monkeypatch):
    monkeypatch.chdir(a_project)
    return a_project


@pytest.fixture
def run(project):
    params, prompts = load("convert", ConvertParams), load("prompts", PromptsParams)
    return partial(convert, params=params, prompts=prompts, workers=HERE)


@pytest.fixture
def sets(project):
    write_sides(ten_records())

    result = CliRunner().invoke(stage.main, ARGUMENTS, catch_exceptions=False)

    assert result.output == "convert: 11 records in 7 data sets of sets\n"
    return project / "sets"


@pytest.fixture
def loaded(sets, tmp_path):
    """A data set as `datasets` reads it: by split, its rows."""
    import datasets

    def load(name):
        found = datasets.load_dataset(str(sets / name), cache_dir=str(tmp_path / "cache"))
        return {split: rows.to_list() for split, rows in found.items()}

    return load


def test_an_example_ends_with_its_reply():
    record = a_record()

    asked = Message(
        role="user", content="问题：《巴黎协定》是在哪一年通过的？\nA. 2012年\nB. 2015年\nC. 2016年\nD. 2018年"
    )
    assert example(record, asking(PROMPT), "B").messages == (
        Message(role="system", content="系统"),
        asked,
        Message(role="assistant", content="B"),
    )
    assert question(record, asking(PROMPT)).prompt[-1] == asked
    assert question(record, asking(PROMPT)).answer == "B"


def test_a_question_with_braces_is_put_as_it_is():
    assert "集合{1}" in question(a_record(question="集合{1}有几个元素？"), asking(PROMPT)).prompt[-1].content


@pytest.mark.parametrize(
    ("question", "steps", "language"),
    [
        ("《巴黎协定》是在哪一年通过的？", ("x",), "zh"),
        ("DNA 是什么？", ("x",), "zh"),
        ("What does the character 道 mean in this text?", ("x",), "en"),
        ("2 + 2 = ?", ("Two and two.",), "en"),
        ("2 + 2 = ?", ("二加二",), "zh"),
        ("2 + 2 = ?", ("4",), None),
    ],
)
def test_a_question_is_chinese_or_english_by_its_words(question, steps, language):
    assert language_of(a_record(question=question, steps=steps)) == language


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ({7: 1}, [7, 7, 7, 7, 7]),
        (dict.fromkeys(range(100, 0, -1), 1), [1, 5, 50, 95, 100]),
        ({3: 98, 1: 1, 9: 1}, [1, 3, 3, 3, 9]),
        ({}, []),
    ],
)
def test_quantiles_are_lengths_that_occur(lengths, found):
    assert list(quantiles(lengths).values()) == found


def test_all_files_are_written_and_counted(sets):
    assert made(sets).keys() == FILES.keys() | {f"{name}/README.md" for name in SETS}
    assert json.loads((sets.parent / "metrics.json").read_text()) == FILES


@pytest.mark.parametrize("variant", ["reasoning", "plain"])
def test_examples_load_as_they_were_made(loaded, variant):
    params, prompts = load("convert", ConvertParams), load("prompts", PromptsParams)
    records = ten_records()
    shown = [one for record in records["train"] for one in orders(record, params.orders, params.seed)]
    assert len(shown) == FILES["sft_reasoning/train.jsonl"]

    def rows(records):
        replies = [render(r, params.parts) if variant == "reasoning" else r.answer for r in records]
        examples = [example(r, asking(getattr(prompts, variant)), s) for r, s in zip(records, replies, strict=True)]
        return [plain(one) for one in examples]

    assert loaded(f"sft_{variant}") == {"train": rows(shown), "validation": rows(records["validation"])}


def test_prompts_load_as_they_were_made(loaded):
    ask = asking(load("prompts", PromptsParams).reasoning)

    assert loaded("rollout") == {"train": [plain(question(r, ask)) for r in ten_records()["rollout"]]}


def test_tables_load_with_every_cell_a_text(loaded):
    records = ten_records()
    letters = [f"option_{letter}" for letter in LETTERS]

    assert loaded("test") == {
        "test": [
            {"id": r.id, "question": r.question, **dict(zip(letters, r.options, strict=True))} for r in records["test"]
        ]
    }
    assert loaded("key") == {
        "test": [{name: getattr(r, name) for name in SETS["key"].columns} for r in records["test"]]
    }
    assert loaded("table") == {
        "bank": [
            {"question": r.question, **dict(zip(letters, r.options, strict=True))}
            | {"correct_answer": r.answer, "reasoning": render(r)}
            for side in SIDES
            for r in records[side]
        ]
    }


def test_parquet_loads_with_every_field(loaded):
    assert loaded("bank") == {side: [plain(r) for r in rows] for side, rows in ten_records().items()}


def test_numbers_that_fill_a_column_stay_texts(run, project, tmp_path):
    import datasets

    run(write_sides({"test": [a_record(id="007", options=("007", "1.50", "1e5", "2020-01-01"))]}), project / "sets")

    found = datasets.load_dataset(str(project / "sets/test"), split="test", cache_dir=str(tmp_path / "cache"))

    assert [found[0]["id"], *(found[0][f"option_{a}"] for a in LETTERS)] == ["007", "007", "1.50", "1e5", "2020-01-01"]


@pytest.mark.parametrize(
    ("file", "schema"),
    [(name, "prompt" if name.startswith("rollout") else "example") for name in FILES if name.endswith(".jsonl")],
)
def test_every_line_is_as_the_schema_says(sets, file, schema):
    validator = jsonschema.Draft202012Validator(document(schema))

    for line in (sets / file).read_bytes().splitlines():
        validator.validate(json.loads(line))


def test_the_test_file_has_no_answers_and_the_key_has(sets):
    with open(sets / "test/test.csv", newline="", encoding="utf-8") as file:
        test = list(csv.DictReader(file))
    with open(sets / "key/key.csv", newline="", encoding="utf-8") as file:
        key = list(csv.DictReader(file))

    assert list(test[0]) == ["id", "question", "option_A", "option_B", "option_C", "option_D"]
    assert test[1]["question"] == '引号"、逗号, 与\n换行\u2028？'
    assert key[1] == {"id": "09", "answer": "B", "topic": "environment", "difficulty": "basic", "type": "factual"}
    assert [row["id"] for row in test] == [row["id"] for row in key]


def own_test(project, *columns):
    (project / "exam").mkdir()
    rows = [f"{n},{n}号公约何时签署？,甲,乙,丙,丁{''.join(f',{cell}' for cell in columns)}\n" for n in "79"]
    header = ",".join(["id,question,option_A,option_B,option_C,option_D", *("answer", "topic")[: len(columns)]])
    (project / "exam" / "my.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    write_sides({"train": [record for rows in ten_records().values() for record in rows]})
    return CliRunner().invoke(stage.main, [*ARGUMENTS, "--exam", "exam"], catch_exceptions=False)


def test_a_test_of_the_users_own_stands_in_place_of_the_banks(project):
    result = own_test(project, "B", "law")

    assert result.output == (
        "convert: 11 records in 7 data sets of sets; the test is exam/my.csv, 2 of 2 with an answer\n"
    )
    sets = made(project / "sets")
    assert sets["test/test.csv"].decode() == (
        "id,question,option_A,option_B,option_C,option_D\n"
        "7,7号公约何时签署？,甲,乙,丙,丁\n9,9号公约何时签署？,甲,乙,丙,丁\n"
    )
    assert sets["key/key.csv"].decode() == "id,answer,topic,difficulty,type\n7,B,law,,\n9,B,law,,\n"
    numbers = json.loads((project / "metrics.json").read_bytes())
    assert (numbers["test/test.csv"], numbers["key/key.csv"], numbers["bank/test.parquet"]) == (2, 2, 0)
    assert b"- Questions: 2\n" in sets["test/README.md"]
    assert b"law" in sets["key/README.md"]


def test_the_key_of_a_test_without_answers_is_its_header(project):
    result = own_test(project)

    assert result.output.endswith("; the test is exam/my.csv, 0 of 2 with an answer\n")
    sets = made(project / "sets")
    assert sets["key/key.csv"] == b"id,answer,topic,difficulty,type\n"
    assert sets["test/test.csv"].count(b"\n") == 3
    assert b"- Questions: 0\n" in sets["key/README.md"]


def test_an_empty_folder_leaves_the_banks_own_test(sets, project):
    before = made(sets)
    (project / "exam").mkdir()

    result = CliRunner().invoke(stage.main, [*ARGUMENTS, "--exam", "exam"], catch_exceptions=False)

    assert result.output == "convert: 11 records in 7 data sets of sets\n"
    assert made(sets) == before


@pytest.mark.parametrize("name", SETS)
def test_a_card_tells_what_is_in_its_folder(sets, name):
    found = DatasetCard.load(sets / name / "README.md")

    assert found.data.pretty_name == SETS[name].title
    assert found.data.language == ["zh"]
    assert found.data.size_categories == ["n<1K"]
    assert found.data.license is None
    assert set(found.data.task_categories) <= {"multiple-choice", "question-answering", "text-generation"}
    rows = sum(count for file, count in FILES.items() if file.startswith(f"{name}/"))
    assert f"\n- Rows: {rows}\n" in found.text
    assert all(f"\n| {column} | " in found.text for column in SETS[name].columns)
    assert str(sets) not in found.text


def test_a_card_counts_teachers_repairs_letters_and_lengths(sets):
    text = (sets / "bank/README.md").read_text()

    assert "| embedded | 10 | 90.9% |\n| other | 1 | 9.1% |\n" in text
    assert "http://x:1" not in text
    assert "| fence | 1 |\n" in text
    assert "| environment | basic | 0 | 0 | 2 |\n| topic_0 | basic | 1 | 1 | 1 |\n" in text
    assert "| A | 9 |\n| B | 2 |\n| C | 0 |\n| D | 0 |\n" in text
    assert "| train | 5 |\n| rollout | 1 |\n| validation | 2 |\n| test | 2 |\n| author | 1 |\n" in text
    assert "| Characters | least | 5 % | median | 95 % | most |\n" in text


def test_a_split_without_rows_is_no_part_of_the_set(run, project, tmp_path):
    import datasets

    run(write_sides({"train": [a_record()]}), project / "sets")

    found = datasets.load_dataset(str(project / "sets/bank"), cache_dir=str(tmp_path / "cache"))
    assert found.keys() == {"train"}
    assert (project / "sets/sft_plain/validation.jsonl").read_bytes() == b""


def test_the_bytes_depend_on_neither_chunks_nor_workers(run, project):
    sides = write_sides({"train": many_records(40), "test": many_records(9)})

    run(sides, project / "once")
    run(sides, project / "again", size=2000)
    run(sides, project / "spread", size=2000, workers=WorkersParams(processes=2, ray=None))

    assert made(project / "once") == made(project / "again") == made(project / "spread")


def test_row_groups_have_one_size(run, project, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(stage, "GROUP", 7)

    run(write_sides({"train": many_records(40)}), project / "sets", size=2000)

    found = pq.ParquetFile(project / "sets/bank/train.parquet")
    groups = [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)]
    assert groups == [7, 7, 7, 7, 7, 5]
    assert found.read(["id"])["id"].to_pylist() == [record.id for record in many_records(40)]


def test_a_bad_row_is_one_line_and_leaves_everything_as_it_was(sets, project):
    before = made(sets)
    with open("test.jsonl", "ab") as file:
        file.write(b'{"id":"1"}\n')

    result = CliRunner().invoke(stage.main, ARGUMENTS)

    assert result.output == "test.jsonl:3: Object missing required field `question`\n"
    assert made(sets) == before
    assert {path.name for path in project.iterdir()} == {*ARGUMENTS, "params.yaml"}


def test_a_folder_is_replaced_whole(sets):
    (sets / "bank/stale.parquet").touch()

    assert CliRunner().invoke(stage.main, ARGUMENTS).exit_code == 0

    assert made(sets).keys() == FILES.keys() | {f"{name}/README.md" for name in SETS}


def test_a_folder_with_other_things_in_it_is_left_alone(run, project):
    sides = write_sides({})

    with pytest.raises(Fault, match=r"holds 'metrics\.json', which this stage does not write"):
        (project / "metrics.json").touch()
        (project / "params.yaml").rename(project.parent / "params.yaml")
        [(project / path).unlink() for path in sides.values()]
        run(sides, project)
    with pytest.raises(Fault, match=r"metrics\.json: a file; name a folder"):
        run(sides, project / "metrics.json")


def test_a_missing_file_is_one_line(project):
    assert CliRunner().invoke(stage.main, ARGUMENTS).output.startswith("train.jsonl: No such file or directory; ")


def test_a_prompt_with_a_stray_brace_is_one_line(project):
    params = (project / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(params.replace("{question}", "{quest}"), encoding="utf-8")

    output = CliRunner().invoke(stage.main, ARGUMENTS).output

    assert output.startswith("params.yaml: prompts.plain: 'quest'; `user` takes {question}")
    assert output.count("\n") == 1
