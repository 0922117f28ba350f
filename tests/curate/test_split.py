import json
from collections import Counter
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.fold import fold, key
from curate.shards import chunks
from curate.split import SIDES, SplitParams, main, side_of
from schemas.record import Placed, Record, Reject
from schemas.rows import read, write
from tests.curate.builders import a_record, configure, many_records

PARAMS = {
    "ngram": 5,
    "permutations": 128,
    "threshold": 0.7,
    "test": 0.2,
    "validation": 0.1,
    "rollout": 0.1,
    "author": [],
    "seed": 7,
}
ORDER = ("train", "rollout", "validation", "test", "author")
FILES = (*(f"{side}.jsonl" for side in ORDER), "sides.jsonl", "rejects.jsonl", "metrics.json")
Grams = frozenset[str]


@pytest.fixture(autouse=True)
def in_a_project(a_project, monkeypatch):
    monkeypatch.chdir(a_project)


def split(records: list[Record], **params: object) -> dict[str, list[Record]]:
    """Run the stage; return its sides."""
    configure("split", **(PARAMS | params))
    write("in.jsonl", records)
    done = CliRunner().invoke(main, ["in.jsonl", *FILES], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return {side: list(read(f"{side}.jsonl", Record)) for side in SIDES}


def metrics() -> dict:
    return json.loads(Path("metrics.json").read_bytes())


def placed() -> dict[str, Placed]:
    return {row.id: row for row in read("sides.jsonl", Placed)}


def similar_records(count: int) -> list[Record]:
    """Each stem in two wordings that are twins."""
    return [
        a_record(
            id=f"{number:04}",
            topic=f"topic_{number % 3}",
            question=record.question.replace("是在", "是于") if number % 2 else record.question,
            options=many_records(count)[number // 2 * 2].options,
        )
        for number, record in enumerate(many_records(count))
    ]


def similarity(one: Grams, other: Grams) -> float:
    return len(one & other) / len(one | other)


def grams(record: Record) -> Grams:
    text = key(record)
    return frozenset(text[at : at + 5] for at in range(len(text) - 4))


def twins(sides: dict[str, list[Record]]) -> list[tuple[str, str]]:
    """Every pair on different sides that is as similar as the threshold or has one stem, by brute force."""
    told = {
        side: [(record.id, fold(record.question), grams(record)) for record in rows] for side, rows in sides.items()
    }
    return [
        (a, b)
        for one, other in combinations(SIDES, 2)
        for a, stem, mine in told[one]
        for b, its_stem, its in told[other]
        if stem == its_stem or similarity(mine, its) >= PARAMS["threshold"]
    ]


@pytest.mark.parametrize("permutations", [128, 1])
def test_no_question_has_a_twin_on_another_side_even_if_hashing_misses_it(permutations):
    records = similar_records(300)

    sides = split(records, permutations=permutations)

    assert min(len(sides["test"]), len(sides["validation"])) > 10
    assert twins(sides) == []
    assert metrics()["set_aside"] > 10
    assert metrics()["nearest_to_test"]["max"] < PARAMS["threshold"]


def test_how_near_test_comes_to_the_other_sides_is_told_exactly():
    sides = split(many_records(240))

    others = [grams(record) for side in SIDES[1:] for record in sides[side]]
    exact = sorted(max(similarity(grams(record), other) for other in others) for record in sides["test"])
    told = metrics()["nearest_to_test"]
    assert metrics()["set_aside"] == 0
    assert told["max"] == round(exact[-1], 4)
    assert told["median"] == round(exact[round(0.5 * (len(exact) - 1))], 4)


def test_of_twins_the_less_held_out_is_set_aside_for_one_that_stays():
    records = similar_records(300)

    split(records)

    found, by_id = placed(), {record.id: record for record in records}
    rejects = list(read("rejects.jsonl", Reject))
    sides = {fold(record.question): found[record.id].side for record in records if found[record.id].side}
    assert [row.id for row in read("sides.jsonl", Placed)] == [record.id for record in records]
    assert {reject.id for reject in rejects} == {id_ for id_, row in found.items() if row.side is None}
    for reject in rejects:
        own = SIDES[side_of(bytes.fromhex(found[reject.id].cluster), SplitParams(**PARAMS))]
        held = found[reject.kept].side
        near = similarity(grams(by_id[reject.id]), grams(by_id[reject.kept]))
        assert SIDES.index(held) < SIDES.index(own)
        assert near >= PARAMS["threshold"]
        assert reject.detail == f"similarity {near:.3f} to a question of the {held} side"
        assert (reject.stage, reject.reason) == ("split", "twin_of_held_out")
    assert set(sides.values()) == set(SIDES) - {"author"}


def test_with_a_test_of_the_users_own_the_bank_gives_none():
    before = split(many_records(300))
    Path("exam").mkdir()
    Path("exam/my.csv").touch()

    done = CliRunner().invoke(main, ["in.jsonl", *FILES, "--exam", "exam"], catch_exceptions=False)

    assert done.exit_code == 0, done.output
    sides = {side: list(read(f"{side}.jsonl", Record)) for side in SIDES}
    assert len(before["test"]) > 10
    assert sides["test"] == []
    assert min(len(sides["validation"]), len(sides["rollout"])) > 10
    assert sum(map(len, sides.values())) == 300


def test_more_held_out_questions_than_are_checked_are_sampled(monkeypatch):
    monkeypatch.setattr("curate.split.CHECKED", 20)

    split(similar_records(300))

    assert metrics()["checked"] == 20


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False))
def test_rows_that_come_or_go_move_no_other(random: Random):
    records = similar_records(120)
    split(records)
    before, raw = placed(), {reject.id: reject.raw for reject in read("rejects.jsonl", Reject)}
    some = random.sample(records, random.randint(0, len(records)))
    news = [a_record(id=f"new{n}", question=f"第{random.random()}问是什么？") for n in range(random.randint(0, 9))]
    mixed = [*some, *news]
    random.shuffle(mixed)

    split(mixed)

    after = placed()
    assert len(raw) > 0
    for record in some:
        one, other = before[record.id], after[record.id]
        assert one.cluster == other.cluster
        assert one.side == other.side or None in (one.side, other.side)


def test_questions_of_one_stem_stay_together_however_many():
    one_stem = [
        a_record(id=str(n), options=("2015年", f"{n}年", f"{n + 50}年", f"{n + 99}年"), answer="A") for n in range(50)
    ]

    split([*one_stem, *many_records(20)])

    assert len({(placed()[record.id].cluster, placed()[record.id].side) for record in one_stem}) == 1
    assert metrics()["largest_cluster"] == 50


def test_every_row_goes_to_one_side_in_its_order_and_as_it_was():
    records = similar_records(100)

    sides = split(records)

    lines = Path("in.jsonl").read_bytes().splitlines()
    rejects = [reject.raw.encode() for reject in read("rejects.jsonl", Reject)]
    written = [Path(f"{side}.jsonl").read_bytes().splitlines() for side in SIDES]
    assert all([line for line in lines if line in side] == side for side in written)
    assert sorted([line for side in written for line in side] + rejects) == sorted(lines)
    assert metrics()["records"] == 100
    assert {side: metrics()[side] for side in SIDES} == {side: len(rows) for side, rows in sides.items()}


def test_each_side_has_its_share_and_so_has_each_topic_and_type_nearly():
    distinct = [
        a_record(id=str(n), question=f"{n * 7919}", topic=f"topic_{n % 3}", type=("factual", "conceptual")[n // 3 % 2])
        for n in range(3000)
    ]

    sides = split(distinct, threshold=1.0)

    assert len(sides["test"]) == pytest.approx(600, abs=75)
    assert len(sides["validation"]) == pytest.approx(300, abs=60)
    assert len(sides["rollout"]) == pytest.approx(300, abs=60)
    shares = Counter((record.topic, record.type) for record in sides["test"])
    told = metrics()
    assert len(shares) == told["strata"] == 6
    assert told["strata_without_test"] == 0
    assert told["test_share"]["min"] == round(min(shares.values()) / 500, 4)
    assert told["test_share"]["max"] == round(max(shares.values()) / 500, 4)
    assert 0.15 < told["test_share"]["min"] <= told["test_share"]["median"] <= told["test_share"]["max"] < 0.25
    assert told["test_by_topic"] == dict(sorted(Counter(record.topic for record in sides["test"]).items()))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_may_be_nothing_or_all(share):
    sides = split(many_records(20), test=share, validation=0.0, rollout=0.0)

    assert len(sides["test"]) == 20 * share
    assert len(sides["train"]) == 20 - 20 * share


def test_shares_that_come_to_more_than_all_are_a_fault():
    configure("split", **(PARAMS | {"test": 0.9, "rollout": 0.2}))
    write("in.jsonl", many_records(2))

    done = CliRunner().invoke(main, ["in.jsonl", *FILES])

    assert done.exit_code == 1
    assert done.output == "params.yaml: split: test, validation and rollout come to more than 1; lower one of them\n"
    assert not Path("test.jsonl").exists()


def test_the_authors_topics_go_to_its_side_whole_and_count_for_no_other():
    records = [a_record(id=str(n), question=f"{n * 7919}", topic=("algebra", "economy")[n % 2]) for n in range(400)]

    sides = split(records, author=["algebra"], threshold=1.0)

    assert [record.id for record in sides["author"]] == [record.id for record in records if record.topic == "algebra"]
    assert {record.topic for side in ("train", "rollout", "validation", "test") for record in sides[side]} == {
        "economy"
    }
    assert metrics()["author"] == 200
    assert metrics()["test_by_topic"].keys() == {"economy"}
    assert metrics()["strata_without_test"] == 0


def test_another_seed_parts_otherwise():
    records = many_records(100)

    assert split(records)["test"] != split(records, seed=8)["test"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_are_split_without_complaint(count):
    split(many_records(count))

    assert metrics()["records"] == count
    assert len(placed()) == count


@pytest.mark.parametrize("question", ["？？", "a\u2028b", "\n", "😀\x00"])
def test_any_text_has_a_side(question):
    split([a_record(id="'\"\\ \u2028", question=question), a_record(id="é/..", topic="other")])

    assert list(placed()) == ["'\"\\ \u2028", "é/.."]


def test_the_bytes_do_not_depend_on_chunks_or_processes(monkeypatch):
    records = similar_records(200)

    def run(**workers: object) -> dict[str, bytes]:
        configure("workers", **workers)
        split(records)
        return {name: Path(name).read_bytes() for name in FILES}

    whole = run(processes=1)
    monkeypatch.setattr("curate.split.chunks", partial(chunks, size=2000))

    assert run(processes=1) == whole
    assert run(processes=2) == whole
