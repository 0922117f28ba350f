import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.exams import Question, exams
from schemas.faults import Fault

STEM = "《巴黎协定》是在哪一年通过的？"
OPTIONS = ("2012年", "2015年", "2016年", "2018年")
FIELDS = {"question": STEM, **dict(zip("ABCD", OPTIONS, strict=True))}


def held(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def in_json(**fields: object) -> str:
    return json.dumps(fields, ensure_ascii=False)


ROW = ",".join((STEM, *OPTIONS))
LAYOUTS = {
    "ceval_test.csv": f"id,question,A,B,C,D\n0,{ROW}\n",
    "ceval_dev.csv": f"id,question,A,B,C,D,answer,explanation\n0,{ROW},B,见条约。\n",
    "cmmlu.csv": f",Question,A,B,C,D,Answer\n0,{ROW},B\n",
    "own_test.csv": f"id,question,option_A,option_B,option_C,option_D\n0,{ROW}\n",
    "bank.tsv": "question\toption_A\toption_B\toption_C\toption_D\tcorrect_answer\treasoning\n"
    + "\t".join((STEM, *OPTIONS, "B", "因此。"))
    + "\n",
    "windows.csv": f"id,question,A,B,C,D\r\n0,{ROW}\r\n",
    "blank.csv": f"id,question,A,B,C,D\n0,{ROW}\n\n",
    "bom.csv": b"\xef\xbb\xbf" + f"question,A,B,C,D\n{ROW}\n".encode(),
    "utf16.csv": f"question,A,B,C,D\n{ROW}\n".encode("utf-16"),
    "utf16be.tsv": b"\xfe\xff" + ("question\tA\tB\tC\tD\n" + ROW.replace(",", "\t")).encode("utf-16-be"),
    "list.jsonl": in_json(question=STEM, options=OPTIONS, answer=1) + "\n",
    "choices.jsonl": in_json(id=1, question=STEM, choices=OPTIONS),
    "letters.jsonl": in_json(**FIELDS),
    "by_letter.jsonl": in_json(question=STEM, options=dict(zip("ABCD", OPTIONS, strict=True))),
    "labels.jsonl": in_json(question=STEM, choices={"text": OPTIONS, "label": list("ABCD")}),
    "crlf.jsonl": in_json(**FIELDS) + "\r\n\r\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read(tmp_path, name):
    path = held(tmp_path, name, LAYOUTS[name])

    assert exams(path) == [Question(str(path), 1 if name.endswith("l") else 2, STEM, OPTIONS)]


def test_a_kaggle_test_has_a_prompt_and_five_options(tmp_path):
    path = held(tmp_path, "test.csv", "id,prompt,A,B,C,D,E,answer\n0,Which?,a,b,c,d,e,A\n")

    assert exams(path) == [Question(str(path), 2, "Which?", tuple("abcde"))]


def test_a_list_in_a_json_file_is_read_with_the_lines_of_its_questions(tmp_path):
    path = held(tmp_path, "test.json", f"[\n  {in_json(**FIELDS)},\n  {in_json(question='?', choices=[1, 2.5])}]")

    assert exams(path) == [Question(str(path), 2, STEM, OPTIONS), Question(str(path), 3, "?", ("1", "2.5"))]


def test_parquet_is_read(tmp_path):
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table({"question": [STEM, "?"], "choices": [list(OPTIONS), ["1", "2"]], "answer": [1, 0]}), path)

    assert exams(path) == [Question(str(path), 1, STEM, OPTIONS), Question(str(path), 2, "?", ("1", "2"))]


def test_a_text_with_line_ends_is_named_by_its_first_line(tmp_path):
    path = held(tmp_path, "test.csv", 'question,A,B\n"one\ntwo, ""three""",a,b\nfour,c,\u2028d\n')

    assert [(q.line, q.question, q.options) for q in exams(path)] == [
        (2, 'one\ntwo, "three"', ("a", "b")),
        (4, "four", ("c", "d")),
    ]


def test_a_folder_is_read_in_the_order_of_its_names_but_for_its_readme(tmp_path):
    for name in ("b/x.csv", "a.csv", "c.csv"):
        held(tmp_path, name, f"question,A,B\n{name},1,2\n")
    for name in ("README.md", "b/README.md", ".gitignore", ".git/config"):
        held(tmp_path, name, "not a test")

    assert [question.question for question in exams(tmp_path)] == ["a.csv", "b/x.csv", "c.csv"]


def test_a_folder_without_tests_holds_no_questions(tmp_path):
    assert exams(tmp_path) == []
    assert exams(Path("curate/held")) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", ":1: the file is empty; the known layouts are C-Eval"),
        ("t.csv", "text,label\nx,1\n", ":1: the columns are 'text', 'label'; the known layouts are C-Eval"),
        ("t.csv", "question,answer\nx,1\n", ":1: the columns are 'question', 'answer'; the known layouts"),
        ("t.csv", "question,A,a\nx,1,2\n", ":1: column 'a' stands twice; keep one"),
        ("t.csv", "question,A,B\nx,1,2\ny,1\n", ":3: 2 columns, the first line has 3; quote a text"),
        ("t.csv", 'question,A,B\nx,1,2\n"y"z,1,2\n', ":3: ',' expected after '\"'; quote the text"),
        ("t.csv", 'question,A,B\n"x,1,2\n', ":2: unexpected end of data; quote the text"),
        ("t.csv", "question,A,B\n ,1,2\n", ":2: the question is empty; write it"),
        ("t.csv", "question,A,B\nx,1,\n", ":2: 1 options; write at least two"),
        ("t.csv", "question,A,B\n甲,1,2\n".encode("gb18030"), ":2: byte 0xbc is not UTF-8; save the file as UTF-8"),
        ("t.csv", b"\xff\xfea\0\n\0b", ":2: byte 0x62 is not UTF-16; save the file as UTF-8"),
        ("t.tsv", "question,A,B\nx,1,2\n", ":1: the columns are 'question,A,B'; the known layouts"),
        ("t.jsonl", '{"question": "x", "options": [1, 2]}\n{"question"\n', ":2: "),
        ("t.jsonl", "[1]\n", ":1: Expected `object`, got `array`; a question is a JSON object"),
        ("t.jsonl", '{"text": "x"}', ":1: no question among 'text'; the known layouts"),
        ("t.jsonl", "{}", ":1: no question among no fields; the known layouts"),
        ("t.jsonl", '{"question": "x"}', ":1: no options among 'question'; the known layouts"),
        ("t.jsonl", '{"question": "x", "options": []}', ":1: no options among 'question', 'options'"),
        ("t.jsonl", '{"question": null, "options": [1, 2]}', ":1: the question is empty"),
        ("t.jsonl", '{"question": ["x"], "options": [1, 2]}', ":1: ['x'] stands where a text should"),
        ("t.jsonl", '{"question": "\\ud800", "options": [1, 2]}', ":1: "),
        ("t.json", '{"question": "x"}', ":1: Expected `array`, got `object`"),
        ("t.json", '[\n{"question": "x", "options": [1, 2]},\n{"question": "y"}]', ":3: no options"),
        ("t.parquet", b"PAR1", ":1: "),
        ("t.xlsx", b"PK", ": a test file ends in .csv, .tsv, .jsonl, .json, .parquet; convert it, or take it out"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_what_cannot_be_read_is_a_fault_with_its_line(tmp_path, name, content, message, alone):
    path = held(tmp_path / "held", name, content)

    with pytest.raises(Fault) as fault:
        exams(path if alone else path.parent)

    assert str(fault.value.message).startswith(f"{path}{message}")
    assert "\n" not in fault.value.message


def test_a_missing_folder_is_a_fault(tmp_path):
    with pytest.raises(Fault, match=r"no such file or folder; name one in params\.yaml, decontaminate\.held"):
        exams(tmp_path / "none")
