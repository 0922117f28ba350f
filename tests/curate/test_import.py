import json

import msgspec
import pytest
from click.testing import CliRunner

from curate import tsv
from curate.checks import ValidateParams
from curate.import_ import main
from curate.validate import validate
from schemas.params import load
from schemas.record import Item, Response
from schemas.rows import read, whole, write
from tests.curate.builders import a_record, an_item, many_records

CELL = ["--difficulty", "basic", "--type", "factual"]


@pytest.fixture
def run(a_project, monkeypatch):
    monkeypatch.chdir(a_project)

    def run(file, *options, topic="environment"):
        return CliRunner().invoke(main, [file, topic, "out/environment.jsonl", *options])

    return run


def content(records):
    return [(r.question, r.options, r.think, r.steps, r.reflection, r.adjustment, r.answer) for r in records]


def test_a_bank_that_was_written_out_comes_back_whole(run):
    records = [*many_records(5), a_record(think='a < b & "c"\t\n换行', adjustment="改")]
    with whole("bank.tsv") as file:
        tsv.write(file, tsv.bank(records), "\t")

    result = run("bank.tsv", *CELL)

    assert result.output == "import: 6 questions of environment\n"
    found = validate(read("out/environment.jsonl", Response), load("validate", ValidateParams))
    assert content(found.records) == content(records)
    assert {record.teacher for record in found.records} == {"import bank.tsv"}


def test_records_come_back_with_their_ids_and_cells(run):
    records = [a_record(id=str(n), difficulty="advanced") for n in range(3)]
    write("own.jsonl", records)

    assert run("own.jsonl").exit_code == 0

    rows = list(read("out/environment.jsonl", Response))
    assert [(row.id, row.difficulty, row.type, row.sample) for row in rows] == [
        (str(n), "advanced", "factual", n) for n in range(3)
    ]


def test_items_get_ids_of_their_own(run):
    write("own.jsonl", [an_item(), an_item()])

    assert run("own.jsonl", *CELL).exit_code == 0

    assert len({row.id for row in read("out/environment.jsonl", Response)}) == 2


def test_a_row_without_a_chain_is_left_to_validate(run, a_project):
    (a_project / "own.tsv").write_text(
        "\t".join(tsv.COLUMNS) + "\n《巴黎协定》何时通过？\t甲\t乙\t丙\t丁\tB\t因为如此\n"
    )

    assert run("own.tsv", *CELL).exit_code == 0

    found = validate(read("out/environment.jsonl", Response), load("validate", ValidateParams))
    assert [reject.reason for reject in found.rejects] == ["wrong_shape"]


ITEM = json.loads(msgspec.json.encode(an_item()))
RECORD = json.loads(msgspec.json.encode(a_record()))


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("a.tsv", b"", CELL, "a.tsv:1: the file is empty"),
        ("a.tsv", b"a\tb\n", CELL, "a.tsv:1: no column 'question'"),
        (
            "a.tsv",
            ("\t".join(tsv.COLUMNS) + "\nq\ta\tb\tc\td\tB\t<output>C</output>\n").encode(),
            CELL,
            "a.tsv:2: correct_answer is 'B'",
        ),
        ("a.jsonl", b"", CELL, "a.jsonl:1: "),
        ("a.jsonl", jsonl(ITEM) + b"{\n", CELL, "a.jsonl:2: "),
        ("a.jsonl", jsonl(ITEM, ITEM | {"answer": "E"}), CELL, "a.jsonl:2: Invalid enum value 'E'"),
        ("a.jsonl", jsonl(ITEM, ITEM | {"options": ["1"]}), CELL, "a.jsonl:2: "),
        ("a.jsonl", jsonl(ITEM) + b"\xff\n", CELL, "a.jsonl:2: byte 0xff is not UTF-8"),
        ("a.jsonl", jsonl(ITEM), [], "a.jsonl:1: no difficulty or type"),
        ("a.jsonl", jsonl(RECORD | {"topic": "economy"}), [], "a.jsonl:1: topic 'economy', not 'environment'"),
        ("a.jsonl", jsonl(RECORD, RECORD), [], "a.jsonl:2: id '0000000000000001' is that of line 1 too"),
        ("a.xlsx", b"PK", CELL, "a.xlsx: neither .tsv nor .jsonl"),
        ("a.jsonl", jsonl(ITEM), ["--difficulty", "hard", "--type", "factual"], "difficulties.hard: not there"),
    ],
)
def test_an_unreadable_file_is_one_line_and_nothing_is_written(run, a_project, name, data, options, message):
    (a_project / name).write_bytes(data)

    result = run(name, *options)

    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not list(a_project.glob("out/*"))


def test_a_topic_must_be_configured(run):
    assert "topics.economy: not there" in run("a.tsv", topic="economy").output


def test_an_own_item_may_be_an_item(run):
    assert msgspec.convert(ITEM, Item) == an_item()
