import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.tsv import COLUMNS, bank, read, write
from schemas.chain import render
from schemas.faults import Fault
from tests.curate.builders import a_record

HEADER = "\t".join(COLUMNS)
ROW = "问题\t甲\t乙\t丙\t丁\tA\t理由"
cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text(st.sampled_from('"\t\r\n, a\u2028\0'))


def written(rows, separator):
    file = io.BytesIO()
    write(file, rows, separator)
    return file.getvalue()


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=4), st.sampled_from("\t,"))
def test_every_table_comes_back(rows, separator):
    text = written(rows, separator).decode()

    assert list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)) == rows


def test_a_bank_comes_back_with_its_lines(tmp_path):
    record = a_record(think='他说："a\tb"\n换行\u2028同段', question="007 与 NA？")
    (tmp_path / "a.tsv").write_bytes(written(bank([record, record]), "\t"))

    lines = read(tmp_path / "a.tsv")

    assert lines[0].fields == dict(
        zip(COLUMNS, (record.question, *record.options, record.answer, render(record)), strict=True)
    )
    breaks = render(record).count("\n")
    assert [line.number for line in lines] == [2, 3 + breaks]


@pytest.mark.parametrize(
    "data",
    [f"{HEADER}\n{ROW}\n", f"{HEADER}\n{ROW}", f"\ufeff{HEADER}\r\n{ROW}\r\n", f"{HEADER}\tid\n{ROW}\t7\n"],
)
def test_what_spreadsheets_write_is_read(tmp_path, data):
    (tmp_path / "a.tsv").write_bytes(data.encode())

    (line,) = read(tmp_path / "a.tsv")

    assert (line.fields["question"], line.fields["reasoning"]) == ("问题", "理由")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"a\.tsv:1: the file is empty"),
        (ROW.encode(), r"a\.tsv:1: no column 'question'"),
        (HEADER.replace("\treasoning", "").encode(), r"a\.tsv:1: no column 'reasoning'"),
        (f"{HEADER}\tnote\n".encode(), r"a\.tsv:1: column 'note' is not known"),
        (f"{HEADER}\tquestion\n".encode(), r"a\.tsv:1: column 'question' stands twice"),
        (HEADER.replace("\t", ",").encode(), r"a\.tsv:1: no column .* tabs"),
        (f"{HEADER}\n{ROW}\t多\n".encode(), r"a\.tsv:2: 8 columns, the first line has 7"),
        (f"{HEADER}\n{ROW}\n\n".encode(), r"a\.tsv:3: 0 columns"),
        (f'{HEADER}\n{ROW}\n"未完'.encode(), r"a\.tsv:3: unexpected end of data"),
        (f'{HEADER}\n"a"b{ROW}\n'.encode(), r"a\.tsv:2: .*; quote the text"),
        (f"{HEADER}\n{ROW}".encode() + b"\xff\n", r"a\.tsv:2: byte 0xff is not UTF-8"),
        (f"{HEADER}\n".encode("gb18030") + "问".encode("gb18030"), r"a\.tsv:2: byte"),
        (HEADER.encode("utf-16"), r"a\.tsv:1: byte 0xff is not UTF-8"),
        (f"{HEADER}\n{ROW}{'x' * 140_000}\n".encode(), r"a\.tsv:2: field larger"),
    ],
)
def test_an_unreadable_file_is_one_line_that_names_the_place(tmp_path, data, message):
    (tmp_path / "a.tsv").write_bytes(data)

    with pytest.raises(Fault, match=message) as caught:
        read(tmp_path / "a.tsv")

    assert "\n" not in caught.value.format_message()


def test_a_missing_file_is_a_fault(tmp_path):
    with pytest.raises(Fault, match="No such file"):
        read(tmp_path / "a.tsv")
