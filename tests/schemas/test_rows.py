import pytest

from schemas.faults import Fault
from schemas.record import Message
from schemas.rows import read, whole, write, write_json

GOOD = b'{"role":"user","content":"x"}\n'


@pytest.mark.parametrize("content", ["", "\u2028\u2029\x85", "a\nb\r\nc", "\0", '"\\', "𠀀", "x" * 1_000_000, "\ufeff"])
def test_every_text_comes_back(tmp_path, content):
    rows = [Message(role="user", content=content)] * 2

    count = write(tmp_path / "new" / "a.jsonl", rows)

    assert count == 2
    assert list(read(tmp_path / "new" / "a.jsonl", Message)) == rows


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")

    assert list(read(tmp_path / "a.jsonl", Message)) == []


def test_windows_line_ends_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(GOOD.replace(b"\n", b"\r\n") * 2)

    assert len(list(read(tmp_path / "a.jsonl", Message))) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"not json\n",
        b'{"role":"user"}\n',
        b'{"role":"boss","content":"x"}\n',
        b"\xff\xfe\n",
        b'"\xe9"\n',
        b"[]\n",
        b'{"role":"user","content":"x","more":1}\n',
        b'{"role":"user","content":"\0"}\n',
        b"\xef\xbb\xbf" + GOOD,
        b'{"role":"user","content":"\xe9"}\n',
        b'{"role":"user","con',
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line):
    (tmp_path / "a.jsonl").write_bytes(GOOD + line)

    with pytest.raises(Fault, match=r"a\.jsonl:2: ."):
        list(read(tmp_path / "a.jsonl", Message))


def test_a_missing_file_says_who_writes_it(tmp_path):
    with pytest.raises(Fault, match="dvc repro"):
        list(read(tmp_path / "a.jsonl", Message))


def test_a_file_is_whole_or_as_it_was(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_json_keeps_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": {"题": 0.5}})

    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1,\n  "a": {\n    "题": 0.5\n  }\n}\n'
