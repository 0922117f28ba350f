import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import asdict

from curate import shards, validate
from curate.shards import Chunk, WorkersParams, chunks, spread
from schemas.chain import write as written
from schemas.faults import Fault
from schemas.record import Record
from schemas.rows import write
from tests.curate.builders import a_record, a_response, an_item, many_records

ROOT = Path.cwd()
ONE = WorkersParams(1, None)
RUNNERS = {
    "two processes": WorkersParams(2, None),
    "three processes": WorkersParams(3, None),
    "ray": WorkersParams(3, "local"),
}


def shouted(end: str, chunk: Chunk) -> str:
    return chunk.data.decode().upper() + end


def refuse(chunk: Chunk) -> str:
    raise Fault(f"{chunk.path}:{chunk.line}: no good")


def die(chunk: Chunk) -> str:
    os._exit(9)


def some(count: int) -> list[Chunk]:
    return [Chunk("in.jsonl", number + 1, f"line {number}\n".encode()) for number in range(count)]


@pytest.mark.parametrize("size", [1, 10, 1000, 1 << 20])
def test_chunks_are_whole_lines_that_make_up_the_file(tmp_path, size):
    path = tmp_path / "in.jsonl"
    write(path, many_records(40))

    found = list(chunks(path, size))

    assert b"".join(chunk.data for chunk in found) == path.read_bytes()
    assert all(chunk.data.endswith(b"\n") for chunk in found)
    assert [line for chunk in found for line in chunk.lines()] == path.read_bytes().splitlines()
    assert [row for chunk in found for row in chunk.rows(Record)] == many_records(40)
    assert [chunk.line for chunk in found] == [
        1 + sum(len(before.lines()) for before in found[:at]) for at in range(len(found))
    ]


def test_a_line_separator_within_a_text_ends_no_line(tmp_path):
    path = tmp_path / "in.jsonl"
    record = a_record(think="一\u2028二\u0085三")
    write(path, [record, record])

    assert [row for chunk in chunks(path, 1) for row in chunk.rows(Record)] == [record, record]


def test_an_empty_file_has_no_chunks(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"")

    assert list(chunks(tmp_path / "in.jsonl")) == []


def test_a_last_line_without_an_end_is_a_line(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"{}\n{}")

    assert [len(chunk.lines()) for chunk in chunks(tmp_path / "in.jsonl")] == [2]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"question": 1}', "Expected `str`, got `int`"),
        (b"", "the line is empty; take it out"),
        (b"{", "Input data was truncated"),
        (b"\x1f\x8b\x08", "byte 0x8b is not UTF-8"),
        ("题".encode("gb18030"), "byte 0xcc is not UTF-8; save the file as UTF-8"),
        (b"\xff\xfe{\x00}\x00", "byte 0xff is not UTF-8"),
        (b'{"id": "\\ud800 alone"}', "JSON is malformed"),
    ],
)
def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path, line, what):
    path = tmp_path / "in.jsonl"
    write(path, many_records(40))
    path.write_bytes(path.read_bytes() + line + b"\n")

    with pytest.raises(Fault, match=r"in\.jsonl:41: .*") as fault:
        for chunk in chunks(path, 2000):
            list(chunk.rows(Record))

    assert what in fault.value.message
    assert "\n" not in fault.value.message


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(Fault, match=r"in\.jsonl: No such file or directory; an earlier stage writes it"):
        list(chunks(tmp_path / "in.jsonl"))


@pytest.mark.parametrize("workers", [ONE, *RUNNERS.values()])
def test_what_is_made_of_the_chunks_comes_in_their_order(workers):
    pieces = some(shards.FEW + 30)

    made = list(spread(partial(shouted, "!"), pieces, workers))

    assert made == [f"LINE {number}\n!" for number in range(len(pieces))]


@pytest.mark.parametrize("workers", [ONE, RUNNERS["two processes"], RUNNERS["ray"]])
def test_a_fault_of_the_work_is_the_fault_of_the_stage(workers):
    with pytest.raises(Fault, match=r"^in\.jsonl:1: no good$"):
        list(spread(refuse, some(shards.FEW + 30), workers))


def test_a_process_that_dies_is_one_line():
    with pytest.raises(Fault, match=r"^workers: a process died.*; set workers\.processes lower$"):
        list(spread(die, some(shards.FEW + 30), WorkersParams(2, None)))


def test_a_cluster_that_is_not_there_is_one_line():
    with pytest.raises(Fault, match=r"^Ray at 127\.0\.0\.1:1: .*Connection refused; "):
        list(spread(refuse, some(1), WorkersParams(2, "127.0.0.1:1")))


def test_only_a_few_chunks_are_under_way():
    taken = 0

    def pieces():
        nonlocal taken
        for chunk in some(shards.FEW + 100):
            taken += 1
            yield chunk

    next(iter(spread(partial(shouted, ""), pieces(), WorkersParams(2, None))))

    assert taken <= shards.FEW + 2 * shards.AHEAD + 1


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_stage_writes_the_same_bytes_wherever_it_works(a_project, monkeypatch, runner):
    monkeypatch.chdir(a_project)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where workers find this package if it is not installed
    monkeypatch.setattr(shards, "FEW", 0)
    good = [a_response(an_item(think=f"第{n}行。"), id=f"{n:016x}") for n in range(200)]
    bad = [a_response(id="x", content=written(an_item()).replace("<think>", "")), a_response(id="y", content="无")]
    write("responses/environment.jsonl", [*good, *bad])
    monkeypatch.setattr(validate, "chunks", partial(chunks, size=10_000))

    def output(workers: WorkersParams) -> list[bytes]:
        monkeypatch.setattr(validate, "spread", partial(spread, workers=workers))
        done = CliRunner().invoke(validate.main, ["responses", "out.jsonl", "rejects.jsonl", "metrics.json"])
        assert done.exit_code == 0, done.output
        return [Path(name).read_bytes() for name in ("out.jsonl", "rejects.jsonl", "metrics.json")]

    assert output(RUNNERS[runner]) == output(ONE)


def test_the_params_say_where_a_stage_works(a_project):
    """As a command, in processes of its own: their functions are found under the module's own name."""
    write(
        a_project / "responses/environment.jsonl",
        [a_response(an_item(think="因" * 9_000), id=f"{n}") for n in range(3_000)],
    )
    text = (a_project / "params.yaml").read_text("utf-8")
    (a_project / "params.yaml").write_text(text.replace("processes: null", "processes: 2"), encoding="utf-8")
    command = [sys.executable, "-m", "curate.validate", "responses", "out.jsonl", "rejects.jsonl", "metrics.json"]

    done = subprocess.run(
        command, cwd=a_project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )

    assert done.stdout == "validate: 0 of 3,000 kept\n", done.stderr


LINE = msgspec.json.encode(a_record())


@pytest.mark.parametrize("data", [LINE, LINE + b"\n", LINE + b"\r\n " + LINE, LINE.replace(b'"basic"', b'"x\\n"')])
def test_a_chunk_is_read_quickly_as_its_rows_are(data):
    chunk = Chunk("a.jsonl", 1, data)

    assert list(map(asdict, chunk.quickly(Record))) == list(map(asdict, chunk.rows(Record)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LINE + b"\n\n" + LINE, r"a\.jsonl:8: the line is empty"),
        (LINE + b"\n" + LINE.replace(b",", b",\n", 1), r"a\.jsonl:8: Input data was truncated"),
        (LINE + LINE, r"a\.jsonl:7: JSON is malformed"),
        (LINE + b"\n" + LINE.replace(b'"basic"', b'"Basic"'), r"a\.jsonl:8: .*regex.*\$\.difficulty"),
        (LINE + b"\n" + LINE.replace(b'"basic"', b'"\xff"'), r"a\.jsonl:8: byte 0xff is not UTF-8"),
    ],
)
def test_a_row_that_cannot_be_read_is_one_line(data, message):
    with pytest.raises(Fault, match=message):
        Chunk("a.jsonl", 7, data).quickly(Record)
