import re
from pathlib import Path

import pytest

from curate.paper import COLUMNS, find, read
from schemas.faults import Fault

HEADER = ",".join(COLUMNS)
ROW = "7,哪一年？,一九年,二九年,三九年,四九年"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("exam").mkdir()
    Path("exam/README.md").write_text("About the test.", encoding="utf-8")


def a_test(text, name="my.csv", encoding="utf-8"):
    path = Path("exam") / name
    path.write_bytes(text.encode(encoding))
    return path


def test_a_folder_without_a_test_has_none():
    for name in (".gitignore", "my.csv.dvc"):
        (Path("exam") / name).touch()

    assert find(Path("exam")) is None
    assert find(Path("not there")) is None
    assert find(None) is None


@pytest.mark.parametrize(("name", "separator"), [("my.csv", ","), ("my.tsv", "\t"), ("MY.CSV", ",")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_test_is_read_as_it_stands(name, separator, encoding):
    path = a_test(f"{HEADER}\n{ROW}\n".replace(",", separator), name, encoding)

    assert find(path.parent) == path
    (question,) = read(path)
    assert (question.line, question.id, question.question) == (2, "7", "哪一年？")
    assert question.options == ("一九年", "二九年", "三九年", "四九年")
    assert (question.answer, question.topic, question.difficulty, question.type) == (None, "", "", "")


def test_answers_and_places_are_read_where_they_are_said():
    rows = [f"{n},{ROW.partition(',')[2]},{rest}" for n, rest in enumerate(["A,law,hard,odd", " D ,, ,", ",,,"])]

    found = read(a_test("\n".join([f"{HEADER},answer,topic,difficulty,type", *rows])))

    assert [(q.answer, q.topic, q.difficulty, q.type) for q in found] == [
        ("A", "law", "hard", "odd"),
        ("D", "", "", ""),
        (None, "", "", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.csv:1: the file is empty; its first line names the columns id, question"),
        (HEADER, "my.csv:2: no rows"),
        (f"{HEADER.removeprefix('id,')}\n", "my.csv:1: no column 'id'; the first line names id, question, option_A"),
        (f"{HEADER.replace('option_D', 'D')}\n", "my.csv:1: no column 'option_D'"),
        (f"{HEADER},correct_answer\n", "my.csv:1: column 'correct_answer' is not known; take it out (answer, topic, "),
        (f"{HEADER},answer,answer\n", "my.csv:1: column 'answer' stands twice"),
        (f"{HEADER}\n{ROW},x\n", "my.csv:2: 7 columns"),
        (f"{HEADER}\n{ROW}\n\n{ROW}\n", "my.csv:4: id '7' is that of line 2 too; give every row its own"),
        (f"{HEADER}\n {ROW[1:]}\n", "my.csv:2: id is empty; write it"),
        (f"{HEADER}\n{ROW.replace('哪一年？', '')}\n", "my.csv:2: question is empty"),
        (f"{HEADER}\n{ROW.replace('四九年', ' ')}\n", "my.csv:2: option_D is empty"),
        (f"{HEADER}\n{ROW.replace('四九年', '二九年 ')}\n", "my.csv:2: option_B and option_D are both '二九年'"),
        (f"{HEADER},answer\n{ROW},b\n", "my.csv:2: answer is 'b'; write one of A, B, C, D, or none"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(text, message):
    with pytest.raises(Fault, match=rf"^exam/{re.escape(message)}"):
        read(a_test(text))


def test_another_encoding_is_named():
    with pytest.raises(Fault, match=r"^exam/my\.csv:2: byte 0x\w\w is not UTF-8; the file looks like GB18030; save it"):
        read(a_test(f"{HEADER}\n{ROW}\n", encoding="gb18030"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.csv", "b.csv"), r"^exam/b\.csv: a second file beside a\.csv; the test is one file, take the other out"),
        (("a.xlsx",), r"^exam/a\.xlsx: none of \.csv, \.tsv; save the test as one of them"),
    ],
)
def test_a_test_that_cannot_be_told_is_one_line(names, message):
    for name in names:
        a_test(f"{HEADER}\n{ROW}\n", name)

    with pytest.raises(Fault, match=message):
        find(Path("exam"))
