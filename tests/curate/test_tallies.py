from collections import Counter
from itertools import permutations

import pytest

from curate.reporting import tallies
from curate.reporting.tallies import Tally, gist, language, opinions, quantile, rejects, script, tally
from curate.shards import WorkersParams
from schemas.record import Judged, Verification
from schemas.rows import write
from tests.curate.builders import a_record, many_records
from tests.curate.qualities import a_judged, a_reject, a_verification


def test_a_record_is_counted_in_every_respect():
    record = a_record(question="甲" * 12, options=("一", "二二", "三", "四"), answer="B")

    counts = tally("test", [record])

    assert counts.cells == {("environment", "basic", "factual"): 1}
    assert counts.sides == {("test", "environment"): 1}
    assert counts.letters == {("test", "B"): 1}
    assert counts.lengths["question", 12] == 1
    assert (counts.lengths["option", 1], counts.lengths["option", 2]) == (3, 1)
    assert counts.records == 1


def test_a_chain_is_neutral_unless_it_decrees_more_than_it_weighs():
    chains = {"绝对必须唯一" * 5: 1, "可能" * 5: 0, "这里没有这样的词语。": 0}

    for words, decrees in chains.items():
        counts = tally("train", [a_record(think=words, steps=(words,), reflection=words)])

        assert counts.decrees["environment"] == decrees, words


def test_the_counts_of_the_parts_add_up_to_those_of_the_whole():
    records = many_records(60)
    whole = tally("train", records)
    added = Tally()

    for start in (0, 7, 40):
        added.add(tally("train", records[start : {0: 7, 7: 40, 40: 60}[start]]))

    assert added == whole


def test_files_are_counted_side_by_side(tmp_path):
    records = many_records(10)
    write(tmp_path / "train.jsonl", records[:7])
    write(tmp_path / "test.jsonl", records[7:])
    files = [("train", tmp_path / "train.jsonl"), ("test", tmp_path / "test.jsonl")]

    counts = tallies.bank(files, WorkersParams(processes=1, ray=None))

    of_side = Counter(side for (side, _), n in counts.sides.items() for _ in range(n))
    assert of_side == {"train": 7, "test": 3}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("人权宣言于1948年通过。", "chinese"),
        ("质能方程 E = mc²", "chinese"),
        ("The treaty is called 公约 in Chinese.", "mixed"),
        ("In which year was it adopted?", "other"),
        ("2015", "other"),
        ("", "other"),
        ("𠮷", "other"),
    ],
)
def test_a_language_is_told_by_its_letters(text, wanted):
    assert language(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"), [("国际", "simplified"), ("國際", "traditional"), ("国際", "both"), ("人口", "neither")]
)
def test_a_script_is_told_by_characters_of_its_own(text, wanted):
    assert script(text) == wanted


def test_of_each_reason_the_rejects_with_the_first_ids_are_shown_in_whatever_order_they_come(tmp_path):
    rows = [a_reject(id=f"{n:016x}") for n in range(5)]
    write(tmp_path / "none.jsonl", [])

    for order in permutations(rows):
        write(tmp_path / "dedup.jsonl", order)
        found = rejects([tmp_path / "none.jsonl", tmp_path / "dedup.jsonl"])

        assert found.reasons == {("dedup", "duplicate"): 5}
        assert found.topics == {("economy", "dedup"): 5}
        assert [example.id for example in found.examples["dedup", "duplicate"]] == [f"{n:016x}" for n in range(3)]


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ('{"question": "哪一年？", "options": []}', "哪一年？"),
        (
            '{"prompt": [{"role": "system", "content": "x"}, {"role": "user", "content": "问题：\\n哪一年？"}]}',
            "问题： 哪一年？",
        ),
        ("<item>\n<question>哪", "<item> <question>哪"),
        ("", ""),
        ('{"question": 3}', '{"question": 3}'),
        ("字" * 300, "字" * 199 + "…"),
    ],
)
def test_a_reject_is_told_by_its_stem_or_its_beginning(raw, wanted):
    assert gist(raw) == wanted


def test_what_was_said_is_counted_under_the_topic_of_the_record(tmp_path):
    first, second, third = (a_record(id=name, topic=topic) for name, topic in (("1", "a"), ("2", "b"), ("3", "b")))
    split = Verification(id="2", answer="B", answers=("B", "C"), agreed=1, asked=3, teacher="t", fault="no reply")
    silent = Judged(id="2", judgement=None, teacher="t", fault="no reply")
    gone = a_verification(a_record(id="9"))
    write(tmp_path / "verify.jsonl", [a_verification(first), split, gone])
    write(tmp_path / "judge.jsonl", [a_judged(third, 2), silent])
    write(tmp_path / "records.jsonl", [first, second, third])

    said = opinions(tmp_path / "verify.jsonl", tmp_path / "judge.jsonl", tmp_path / "records.jsonl")

    assert said.records == {"a": 1, "b": 2}
    assert (said.agreed, said.answers) == ({"a": 1, "b": 1}, {"a": 1, "b": 2})
    assert said.judged == {"b": 1}
    assert said.marks == {("b", name): 2 for name in tallies.MARKS}


@pytest.mark.parametrize(
    ("share", "wanted"), [(0.0, 1), (0.1, 1), (0.5, 5), (0.51, 6), (0.9, 9), (0.99, 10), (1.0, 10)]
)
def test_a_quantile_is_a_size_that_there_is(share, wanted):
    assert quantile(Counter(range(1, 11)), share) == wanted


def test_of_nothing_there_is_no_quantile():
    assert quantile(Counter(), 0.5) is None
