import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.tsv import COLUMNS, encode, read, row
from schemas.chain import render
from schemas.faults import Fault
from tests.curate.builders import a_record

HEADER = "\t".join(COLUMNS)
ROW = "问题\t甲\t乙\t丙\t丁\tA\t理由"
CELLS = (
    "NA", "null", "None", "nan", "true", "007", "1.50", "1e5", "2020-01-01", "", " 前", "后 ", "\u3000宽\u3000",
    "a\tb", "a,b", 'q"u"o', '"', "'x", "\\", "\\n", "a\nb", "a\rb", "a\r\nb", "\r", "a\x0bb", "a\x1cb", "a\x85b",
    "\u2028段", "段\u2029", "\ufeff标", "\xa0", "=1+1", "+1", "-1", "@x", "#c", "\U0001f600",
)  # fmt: skip
cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.text(st.sampled_from('"\t\r\n, a\u2028\0'))


def lines(text):
    return io.StringIO(text, newline="")


def rows_of(tmp_path, text):
    return [line.fields for line in read(tmp_path / "a.tsv", lines(text), "\t")]


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=4), st.sampled_from("\t,"))
def test_every_table_comes_back(rows, separator):
    text = encode(rows, separator).decode()

    assert list(csv.reader(lines(text), delimiter=separator, strict=True)) == rows


@given(st.lists(st.lists(cells, min_size=7, max_size=7), min_size=1, max_size=4), st.sampled_from("\t,"))
def test_what_is_written_is_read(rows, separator):
    text = encode([COLUMNS, *rows], separator).decode()

    assert [list(line.fields.values()) for line in read("a.tsv", lines(text), separator)] == rows


@pytest.mark.parametrize("separator", ["\t", ","])
def test_pandas_reads_what_is_written(tmp_path, separator):
    import pandas

    (tmp_path / "a").write_bytes(encode([("id", "cell"), *((str(n), cell) for n, cell in enumerate(CELLS))], separator))

    table = pandas.read_csv(tmp_path / "a", sep=separator, dtype=str, keep_default_na=False)

    assert tuple(table["cell"]) == CELLS


def test_the_csv_modules_excel_dialects_read_and_write_the_same(tmp_path):
    rows = [list(COLUMNS), *([cell] * 7 for cell in CELLS)]
    with open(tmp_path / "a.tsv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, "excel-tab").writerows(rows)

    assert list(csv.reader(lines(encode(rows, "\t").decode()), "excel-tab")) == rows
    assert [list(found.values()) for found in rows_of(tmp_path, (tmp_path / "a.tsv").read_bytes().decode())] == rows[1:]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "'x", "007", "NA", "段\u2028段", "a b", ""])
def test_a_text_without_separators_stands_as_it_is(cell):
    assert encode([(cell, "b")], "\t") == f"{cell}\tb\n".encode()


def test_a_bank_comes_back_with_its_lines(tmp_path):
    record = a_record(think='他说："a\tb"\n换行\u2028同段', question="007 与 NA？")
    text = encode([COLUMNS, *[row(record, render(record))] * 2], "\t").decode()

    found = list(read(tmp_path / "a.tsv", lines(text), "\t"))

    assert found[0].fields == dict(
        zip(COLUMNS, (record.question, *record.options, record.answer, render(record)), strict=True)
    )
    breaks = render(record).count("\n")
    assert [line.number for line in found] == [2, 3 + breaks]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{ROW}\n",
        f"{HEADER}\n{ROW}",
        f"{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\r{ROW}\r",
        f"{HEADER}\tid\n{ROW}\t7\n",
        f"\n{HEADER}\n\n{ROW}\n\n\n".lstrip("\n"),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    (fields,) = rows_of(tmp_path, text)

    assert (fields["question"], fields["reasoning"]) == ("问题", "理由")


def test_a_long_cell_is_read(tmp_path):
    (fields,) = rows_of(tmp_path, f"{HEADER}\n{ROW}{'长' * 10_000_000}\n")

    assert len(fields["reasoning"]) == 10_000_002


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.tsv:1: the file is empty"),
        (HEADER, r"a\.tsv:2: no rows"),
        (f"{HEADER}\r\n", r"a\.tsv:2: no rows"),
        (ROW, r"a\.tsv:1: no column 'question'"),
        (HEADER.replace("\treasoning", ""), r"a\.tsv:1: no column 'reasoning'"),
        (f"{HEADER}\tnote\n", r"a\.tsv:1: column 'note' is not known"),
        (f"{HEADER}\tquestion\n", r"a\.tsv:1: column 'question' stands twice"),
        (HEADER.replace("\t", ","), r"a\.tsv:1: no column .* tabs"),
        (f"{HEADER}\n{ROW}\t多\n", r"a\.tsv:2: 8 columns, the first line has 7"),
        (f"{HEADER}\n{ROW}\n\n少\n", r"a\.tsv:4: 1 columns"),
        (f'{HEADER}\n{ROW}\n"未完', r"a\.tsv:3: unexpected end of data"),
        (f'{HEADER}\n"a"b{ROW}\n', r"a\.tsv:2: .*; quote the text"),
        (f'{HEADER}\n"{"x" * ((1 << 24) + 1)}\n', r"a\.tsv:2: field larger .* is a quote not closed"),
    ],
)
def test_an_unreadable_table_is_one_line_that_names_the_place(tmp_path, text, message):
    with pytest.raises(Fault, match=message) as caught:
        rows_of(tmp_path, text)

    assert "\n" not in caught.value.format_message()
