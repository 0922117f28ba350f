import json
import re

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from curate import tsv
from curate.checks import ValidateParams
from curate.convert import ConvertParams, PromptsParams, convert
from curate.import_ import PLACE, main, steps
from curate.shards import WorkersParams
from curate.validate import validate
from schemas.chain import render
from schemas.params import load
from schemas.record import Item, Response
from schemas.rows import read, write
from tests.curate.builders import a_record, an_item, many_records

CELL = ["--difficulty", "basic", "--type", "factual"]
HEADER = "\t".join(tsv.COLUMNS)


@pytest.fixture
def run(a_project, monkeypatch):
    monkeypatch.chdir(a_project)

    def run(file, *options, topic="environment"):
        return CliRunner().invoke(main, [file, topic, *options])

    return run


def responses():
    return [row for path in sorted(PLACE.glob("*")) for row in read(path, Response)]


def imported():
    return validate(responses(), load("validate", ValidateParams))


def content(records):
    return [(r.question, r.options, r.think, r.steps, r.reflection, r.adjustment, r.answer) for r in records]


def table(*reasonings, answer="B"):
    rows = [("《巴黎协定》何时通过？", "2012年", "2015年", "2016年", "2018年", answer, text) for text in reasonings]
    return tsv.encode([tsv.COLUMNS, *rows], "\t").decode()


def test_a_bank_that_was_written_out_comes_back_whole(run, a_project):
    records = [*many_records(5), a_record(think='a < b & "c"\t\n换行\r回车', adjustment="改", reflection="")]
    rows = [tsv.row(record, render(record)) for record in records]
    (a_project / "bank.tsv").write_bytes(tsv.encode([tsv.COLUMNS, *rows], "\t"))

    result = run("bank.tsv", *CELL)

    assert result.output == "import: 6 questions of environment in curate/imported/environment.bank.jsonl\n"
    found = imported()
    assert content(found.records) == content(records)
    assert {record.teacher for record in found.records} == {"import bank.tsv"}


def test_records_come_back_with_their_ids_and_cells(run):
    records = [a_record(id=str(n), difficulty="advanced") for n in range(3)]
    write("own.jsonl", records)

    assert run("own.jsonl").exit_code == 0

    assert [(row.id, row.difficulty, row.type, row.sample) for row in responses()] == [
        (str(n), "advanced", "factual", n) for n in range(3)
    ]


def test_the_data_sets_of_convert_come_back(run, a_project):
    records = [a_record(id=f"{n}", question=f"第{n}届大会是在哪一年召开的？") for n in range(4)]
    write("some.jsonl", records)
    write("none.jsonl", [])
    sources = {"train": "some.jsonl", "rollout": "none.jsonl", "validation": "none.jsonl", "test": "none.jsonl"}
    here = WorkersParams(processes=1, ray=None)
    convert(sources, a_project / "sets", load("convert", ConvertParams), load("prompts", PromptsParams), here)

    assert run("sets/bank/train.parquet").exit_code == 0
    assert [(r.id, *content([r])) for r in imported().records] == [(r.id, *content([r])) for r in records]

    (PLACE / "environment.train.jsonl").unlink()
    assert run("sets/table/bank.tsv", *CELL).exit_code == 0
    assert content(imported().records) == content(records)


def test_items_get_ids_of_their_own(run):
    write("own.jsonl", [an_item(), an_item()])

    assert run("own.jsonl", *CELL).exit_code == 0

    assert len({row.id for row in responses()}) == 2


@pytest.mark.parametrize("name", ["a.tsv", "a.TSV", "a.csv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_a_spreadsheet_saves_is_read(run, a_project, name, encoding, end):
    text = table('理由一"甲"\n理由二').replace("\t", "\t" if name.lower() == "a.tsv" else ",").replace("\n", end)
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (a_project / name).write_bytes((mark + text).encode(encoding))

    assert run(name, *CELL).exit_code == 0

    (record,) = imported().records
    assert (record.question, record.steps) == ("《巴黎协定》何时通过？", ('理由一"甲"', "理由二"))


@pytest.mark.parametrize(
    ("prose", "cut"),
    [
        ("因为如此", ["因为如此"]),
        ("先看题干。\n\n再看选项。\r\n故选B。", ["先看题干。", "再看选项。", "故选B。"]),
        ("1. 先看题干。2. 再看选项。3. 故选B。", ["1. 先看题干。", "2. 再看选项。", "3. 故选B。"]),
        ("分析：\n1、甲\n  接着\n2、乙", ["分析：", "1、甲\n  接着", "2、乙"]),
        ("步骤1：甲。步骤2：乙。", ["步骤1：甲。", "步骤2：乙。"]),
        ("第一步，甲。第二步，乙。", ["第一步，甲。", "第二步，乙。"]),
        ("Step 1: a\nStep 2: b", ["Step 1: a", "Step 2: b"]),
        ("（1）甲；（2）乙", ["（1）甲；", "（2）乙"]),
        ("一、甲\n二、乙", ["一、甲", "二、乙"]),
        ("①甲②乙", ["①甲", "②乙"]),
        ("".join(f"{n}. 甲。" for n in range(1, 13)), [f"{n}. 甲。" for n in range(1, 13)]),
        ("协定于2015年通过，圆周率约为3.14。", ["协定于2015年通过，圆周率约为3.14。"]),
        ("甲\u2028乙", ["甲\u2028乙"]),
        (" \n ", []),
    ],
)
def test_prose_is_cut_where_it_counts_or_where_its_lines_end(prose, cut):
    assert steps(prose) == cut


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from("12十一二、.。①② \n\r（）第步骤a")))
def test_prose_keeps_its_words(prose):
    assert re.sub(r"\s", "", "".join(steps(prose))) == re.sub(r"\s", "", prose)


def test_plain_prose_enters_without_thoughts_made_up(run, a_project):
    (a_project / "own.tsv").write_text(table("1. a < b & c > d。2. 因此选B。"), encoding="utf-8")

    assert run("own.tsv", *CELL).exit_code == 0

    (record,) = imported().records
    assert record.steps == ("1. a < b & c > d。", "2. 因此选B。")
    assert (record.think, record.reflection, record.adjustment, record.repairs) == ("", "", None, ())


def test_an_item_may_be_its_steps_alone(run, a_project):
    item = {"question": "《巴黎协定》何时通过？", "options": ["甲", "乙", "丙", "丁"], "steps": ["因为"], "answer": "A"}
    (a_project / "own.jsonl").write_text("\ufeff" + json.dumps(item) + "\r\n\n \n", encoding="utf-8")

    assert run("own.jsonl", *CELL).exit_code == 0

    (record,) = imported().records
    assert (record.steps, record.think, record.reflection) == (("因为",), "", "")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (table(""), "wrong_shape"),
        (table("<think>想</think>因为如此"), "wrong_shape"),
        (table("因为如此", answer="E"), "wrong_shape"),
        (table("因为\x0b如此"), "not_xml"),
        (table("长" * 10_000_000), "too_large"),
    ],
)
def test_a_row_that_holds_no_question_is_left_to_validate(run, a_project, row, reason):
    (a_project / "own.tsv").write_bytes(row.encode())

    assert run("own.tsv", *CELL).exit_code == 0

    assert [reject.reason for reject in imported().rejects] == [reason]


ITEM = json.loads(msgspec.json.encode(an_item()))
RECORD = json.loads(msgspec.json.encode(a_record()))


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("a.tsv", b"", CELL, "a.tsv:1: the file is empty"),
        ("a.tsv", HEADER.encode(), CELL, "a.tsv:2: no rows"),
        ("a.tsv", b"a\tb\n", CELL, "a.tsv:1: no column 'question'"),
        ("a.tsv", table("甲", "<output>C</output>").encode(), CELL, "a.tsv:3: correct_answer is 'B', the chain says"),
        ("a.tsv", table("甲").encode("gb18030"), CELL, "a.tsv:2: byte 0xa1 is not UTF-8; the file looks like GB18030"),
        ("a.tsv", table("甲").encode() + b"x\ty\n", CELL, "a.tsv:3: 2 columns"),
        ("a.tsv", b"PK\x03\x04", CELL, "a.tsv:1: not text but a zip archive"),
        ("a.tsv", table("甲").encode(), ["--difficulty", "basic"], "a.tsv:2: no difficulty or type"),
        ("a.jsonl", b"", CELL, "a.jsonl:1: the file is empty"),
        ("a.jsonl", b"\n \n", CELL, "a.jsonl:1: the file is empty"),
        ("a.jsonl", jsonl(ITEM) + b"{\n", CELL, "a.jsonl:2: "),
        ("a.jsonl", json.dumps([ITEM], indent=1).encode(), CELL, "a.jsonl:1: a JSON array; write an object a line"),
        ("a.jsonl", jsonl(ITEM, ITEM | {"answer": "E"}), CELL, "a.jsonl:2: Invalid enum value 'E'"),
        ("a.jsonl", jsonl(ITEM, ITEM | {"options": ["1"]}), CELL, "a.jsonl:2: "),
        ("a.jsonl", jsonl(ITEM, ITEM | {"note": ""}), CELL, "a.jsonl:2: Object contains unknown field `note`"),
        ("a.jsonl", jsonl(ITEM) + b"\xff\n", CELL, "a.jsonl:2: byte 0xff is not UTF-8"),
        ("a.jsonl", json.dumps(ITEM | {"think": "\ud800"}).encode(), CELL, "a.jsonl:1: half a surrogate pair"),
        ("a.jsonl", jsonl(ITEM), [], "a.jsonl:1: no difficulty or type"),
        ("a.jsonl", jsonl(RECORD | {"type": "odd"}), [], "a.jsonl:1: 'odd' is none of the types analytical, "),
        ("a.jsonl", jsonl(RECORD | {"topic": "economy"}), [], "a.jsonl:1: topic 'economy', not 'environment'"),
        ("a.jsonl", jsonl(RECORD, RECORD), [], "a.jsonl:2: id '0000000000000001' is that of line 1 too"),
        ("a.parquet", b"", CELL, "a.parquet: "),
        ("a.parquet", b"PAR1 and no more of it PAR1", CELL, "a.parquet: "),
        ("a.xlsx", b"PK", CELL, "a.xlsx: none of .tsv, .csv, .jsonl, .parquet"),
        ("a.jsonl", jsonl(ITEM), ["--difficulty", "hard", "--type", "factual"], "difficulties.hard: not there"),
    ],
)
def test_an_unreadable_file_is_one_line_and_nothing_is_written(run, a_project, name, data, options, message):
    (a_project / name).write_bytes(data)

    result = run(name, *options)

    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not list(PLACE.glob("*"))


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.parquet"])
def test_a_folder_or_a_missing_file_is_one_line(run, a_project, name):
    assert re.fullmatch(rf"{name}: .+; name a file that can be read\n", run(name, *CELL).output)
    (a_project / name).mkdir()
    assert re.fullmatch(rf"{name}: .+; name a file that can be read\n", run(name, *CELL).output)


def test_a_parquet_row_that_is_no_item_is_named(run, a_project):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([ITEM, ITEM | {"question": None}]), a_project / "a.parquet")

    assert run("a.parquet", *CELL).output.startswith("a.parquet:2: Expected `str`, got `null`")


def test_a_topic_must_be_configured(run):
    assert "topics.economy: not there" in run("a.tsv", topic="economy").output


def test_another_file_adds_and_the_same_replaces_its_own(run):
    write("a.jsonl", [an_item(), an_item(question="《京都议定书》是在哪一年通过的？")])
    write("b.jsonl", [an_item()])

    assert run("a.jsonl", *CELL).exit_code == 0
    assert run("b.jsonl", *CELL).exit_code == 0
    assert len({row.id for row in responses()}) == 3

    write("a.jsonl", [an_item()])
    assert run("a.jsonl", *CELL).output == (
        "import: 1 questions of environment in curate/imported/environment.a.jsonl, in place of 2 there\n"
    )
    assert len({row.id for row in responses()}) == 2


def test_an_import_that_fails_leaves_the_one_before(run):
    write("a.jsonl", [an_item()])
    assert run("a.jsonl", *CELL).exit_code == 0
    before = responses()

    write("a.jsonl", [a_record(topic="economy")])

    assert run("a.jsonl").exit_code == 1
    assert responses() == before


def test_an_id_of_another_file_is_one_line_and_nothing_is_written(run):
    write("a.jsonl", [a_record(id="7")])
    write("b.jsonl", [a_record(id="6"), a_record(id="7", question="《京都议定书》是在哪一年通过的？")])
    assert run("a.jsonl").exit_code == 0

    result = run("b.jsonl")

    assert result.output == (
        "b.jsonl:2: id '7' is that of curate/imported/environment.a.jsonl too; give every row its own, or none\n"
    )
    assert [row.id for row in responses()] == ["7"]


def test_an_own_item_may_be_an_item(run):
    assert msgspec.convert(ITEM, Item) == an_item()
