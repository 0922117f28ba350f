import gzip
import io
import zipfile

import pytest

from curate.foreign import lines, looks_like
from schemas.faults import Fault

SIMPLIFIED = "《巴黎协定》是在哪一年通过的？先回忆有关的背景，再看各个选项之间的区别，最后得出结论。"
TRADITIONAL = "《巴黎協定》是在哪一年通過的？先回憶有關的背景，再看各個選項之間的區別，最後得出結論。"
TEXT = "一\r\n二\u2028二\n三\x85\n"


def a_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("xl/workbook.xml"), "<workbook/>")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xff\xfe" + TEXT.encode("utf-16-le"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
    ],
)
def test_a_text_comes_line_by_line_whatever_its_encoding(tmp_path, data):
    (tmp_path / "a").write_bytes(data)

    assert list(lines(tmp_path / "a")) == ["一\r\n", "二\u2028二\n", "三\x85\n"]


def test_a_line_may_end_at_a_line_feed_alone(tmp_path):
    (tmp_path / "a").write_bytes("一\r二\n三".encode())

    assert list(lines(tmp_path / "a", newline="\n")) == ["一\r二\n", "三"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("一\n".encode() + b"\xff\n", r"a:2: byte 0xff is not UTF-8; save it as UTF-8"),
        (b"a\r\nb\r\xe9\r\n", r"a:3: byte 0xe9 is not UTF-8"),
        (f"id\n{SIMPLIFIED}\n".encode("gb18030"), r"a:2: byte 0xa1 is not UTF-8; the file looks like GB18030; save"),
        (f"id\n{TRADITIONAL}\n".encode("cp950"), r"a:2: byte 0xa1 is not UTF-8; the file looks like Big5; save"),
        ("一\n二".encode("utf-16-le") * 2, r"a:1: NUL bytes|a:1: byte"),
        ("a\tb\n".encode("utf-16-le"), r"a:1: NUL bytes: binary, or UTF-16 without its byte order mark"),
        ("a\tb\n".encode("utf-32"), r"a:1: not text but in UTF-32"),
        ("一\n二\n".encode("utf-16")[:-1], r"a:2: byte 0x\w\w is not UTF-16"),
        (b"\xff\xfea\0\n\0\x00\xd8\n\0", r"a:2: byte 0x00 is not UTF-16"),
        (b"\xed\xa0\x80\n", r"a:1: byte 0xed is not UTF-8"),
        ("一二三四五六七八九十\n".encode() + b"a\0b\n", r"a:2: a NUL character"),
        (a_zip(), r"a:1: not text but a zip archive, perhaps an Excel workbook"),
        (gzip.compress(b"a", mtime=0), r"a:1: not text but compressed by gzip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"a:1: not text but an old Excel workbook"),
        (b"PAR1\x15\x04", r"a:1: not text but a Parquet file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"a:1: NUL bytes: binary"),
    ],
)
def test_what_is_no_text_is_one_line_that_says_what_it_is(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)

    with pytest.raises(Fault, match=message) as caught:
        list(lines(tmp_path / "a"))

    assert "\n" not in caught.value.format_message()


def test_a_folder_and_a_missing_file_are_faults(tmp_path):
    with pytest.raises(Fault, match=r"Is a directory; name a file"):
        list(lines(tmp_path))
    with pytest.raises(Fault, match=r"No such file or directory; name a file"):
        list(lines(tmp_path / "a"))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (SIMPLIFIED.encode("gb18030"), "GB18030"),
        (SIMPLIFIED.encode("gb18030")[:31], "GB18030"),
        (TRADITIONAL.encode("cp950"), "Big5"),
        ("次の文章を読んで、正しいものを選びなさい。".encode("shift_jis"), None),
        ("Où est né l'écrivain français Émile Zola ?".encode("latin-1"), None),
        (SIMPLIFIED.encode() + b"\xff", None),
        (b"\xff\xfe\xfd", None),
    ],
)
def test_an_encoding_is_guessed_by_the_characters_it_gives(data, name):
    assert looks_like(data) == name
