from collections import Counter
from itertools import combinations

import pytest

from curate.similar import fold, key
from curate.split import SIDES, SplitParams, metrics, split
from tests.curate.builders import a_record, many_records

PARAMS = SplitParams(ngram=5, permutations=128, threshold=0.7, test=0.2, validation=0.1, rollout=0.1, seed=7)


def shingles(record):
    text = key(record)
    return {text[at : at + 5] for at in range(len(text) - 4)}


def twins(found):
    """Every pair on different sides that is as similar as the threshold or has one stem, by brute force."""
    for one, other in combinations(SIDES, 2):
        for a in getattr(found, one):
            for b in getattr(found, other):
                similarity = len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))
                if similarity >= PARAMS.threshold or fold(a.question) == fold(b.question):
                    yield a.id, b.id


def test_no_question_has_a_twin_on_another_side():
    found = split(many_records(240), PARAMS)

    assert min(len(found.test), len(found.validation)) > 10
    assert list(twins(found)) == []
    exact = [
        max(
            len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))
            for b in (*found.train, *found.rollout, *found.validation)
        )
        for a in found.test
    ]
    assert found.nearest == sorted(exact)
    assert metrics(found, 0.7)["nearest_to_test"]["max"] == round(max(exact), 4)


def test_a_twin_that_hashing_misses_is_found_by_the_comparison(monkeypatch):
    monkeypatch.setattr("curate.split.pairs", lambda *_, **__: [])
    records = many_records(120)
    apart = [
        record
        if n % 2
        else a_record(**{f: getattr(record, f) for f in ("id", "topic", "type")} | {"question": record.question + "呢"})
        for n, record in enumerate(records)
    ]

    assert list(twins(split(apart, PARAMS))) == []


def test_every_row_goes_to_one_side_in_its_order():
    records = many_records(100)

    found = split(records, PARAMS)

    for side in SIDES:
        ids = [record.id for record in getattr(found, side)]
        assert ids == sorted(ids)
    assert sorted(record.id for side in SIDES for record in getattr(found, side)) == [record.id for record in records]
    assert sum(found.clusters) == 100


def test_every_topic_and_type_is_held_out_in_proportion():
    found = split(many_records(600), PARAMS)

    held = Counter((record.topic, record.type) for record in found.test)
    assert len(held) == 9
    assert all(abs(count - 600 / 9 * 0.2) <= 4 for count in held.values())
    assert abs(len(found.test) - 120) <= 9
    assert metrics(found, 0.7)["strata_without_test"] == 0


def test_a_cluster_larger_than_its_share_stays_in_train():
    one_stem = [
        a_record(id=str(n), options=("2015年", f"{n}年", f"{n + 50}年", f"{n + 99}年"), answer="A") for n in range(50)
    ]

    found = split([*one_stem, *many_records(20)], PARAMS)

    assert {record.id for record in one_stem} <= {record.id for record in found.train}
    assert found.clusters[0] == 50


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_may_be_nothing_or_all(share):
    found = split(
        many_records(20),
        SplitParams(**{f: getattr(PARAMS, f) for f in PARAMS.__struct_fields__} | {"test": share, "validation": 0.0}),
    )

    assert len(found.test) == 20 * share


def test_the_parting_depends_on_rows_and_seed_alone():
    records = many_records(100)
    other = SplitParams(**{f: getattr(PARAMS, f) for f in PARAMS.__struct_fields__} | {"seed": 8})

    assert split(records, PARAMS) == split(records, PARAMS)
    assert split(records, PARAMS).test != split(records, other).test


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_are_split_without_complaint(count):
    found = split(many_records(count), PARAMS)

    assert metrics(found, 0.7)["records"] == count
