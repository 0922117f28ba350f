from pathlib import Path

import pytest

from schemas.faults import Fault
from schemas.params import Params, Topic, load, topics


class SomeParams(Params, frozen=True):
    ngram: int
    threshold: float


@pytest.fixture
def file(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "params.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_section_becomes_a_frozen_value(file):
    params = load("dedup", SomeParams, file("dedup: {ngram: 5, threshold: 2e-5}"))

    assert params == SomeParams(ngram=5, threshold=0.00002)
    with pytest.raises(AttributeError):
        params.ngram = 6


def test_a_dotted_section_is_a_part_of_one(file):
    path = file("topics: {economy: {name: 经济发展, samples: 3, round: 0}}")

    assert load("topics.economy", Topic, path) == topics(path)["economy"] == Topic(name="经济发展", samples=3, round=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dedup: {ngram: 5}", "dedup: .*threshold"),
        ("dedup: {ngram: five, threshold: 0.5}", r"dedup\.ngram: Expected `int`"),
        ("dedup: {ngram: 5, threshold: 0.5, treshold: 1}", "treshold"),
        ("dedupe: {ngram: 5, threshold: 0.5}", "unknown section; did you mean 'dedup'"),
        ("split: {}", "dedup: Field required"),
        ("- dedup", "must be a mapping"),
        ("", "must be a mapping"),
        ("dedup: {ngram: 5", "params.yaml: "),
        (b"dedup: \xff", "params.yaml: "),
        ("dedup: 1\ndedup: 2", "duplicate key"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_place(file, text, message):
    with pytest.raises(Fault, match=message) as caught:
        load("dedup", SomeParams, file(text))

    assert "\n" not in caught.value.format_message()


@pytest.mark.parametrize("slug", ["../evil", "a.b", "$(rm)", "Economy", "经济", "a" * 41, "1a", "'a b'"])
def test_a_slug_that_could_leave_its_folder_is_refused(file, slug):
    with pytest.raises(Fault, match="a slug becomes a file name"):
        topics(file(f"topics: {{{slug}: {{name: x, samples: 1, round: 0}}}}"))


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(Fault, match="project's root"):
        load("dedup", SomeParams, tmp_path / "params.yaml")
