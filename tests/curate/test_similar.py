from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.fold import key
from curate.similar import CROWD, MOST, RECALL, Grams, Near, bands, candidates, similarities, sketch
from tests.curate.builders import many_records


def near(threshold: float, ngram: int = 5, permutations: int = 128) -> Near:
    return Near(ngram=ngram, permutations=permutations, threshold=threshold, seed=7)


def pairs(texts: list[str], near: Near) -> dict[tuple[int, int], float]:
    """The (earlier, later) texts that are near, and how similar they are."""
    found = candidates(sketch(texts, near), near)
    similarity = similarities(texts, found.first, found.second, near.ngram).tolist()
    rows = zip(found.first.tolist(), found.second.tolist(), strict=True)
    return {pair: near_ for pair, near_ in zip(rows, similarity, strict=True) if near_ >= near.threshold}


def shingles(text: str, size: int) -> set[str]:
    return {text[at : at + size] for at in range(max(1, len(text) - size + 1))}


def jaccard(one: str, other: str, size: int) -> float:
    a, b = shingles(one, size), shingles(other, size)
    return len(a & b) / len(a | b)


@given(st.lists(st.text(st.sampled_from("甲乙丙1"), max_size=12), max_size=6), st.integers(1, 5))
def test_grams_are_those_of_each_text_alone(texts, size):
    grams = Grams(texts, size)

    assert [len(grams.of(row)) for row in range(len(texts))] == [len(shingles(text, size)) for text in texts]
    for one, other in combinations(range(len(texts)), 2):
        padded = [text.ljust(size, "\0") for text in (texts[one], texts[other])]
        shared = set(grams.of(one).tolist()) & set(grams.of(other).tolist())
        assert len(shared) == len(shingles(padded[0], size) & shingles(padded[1], size))


@settings(max_examples=20)
@given(st.data())
def test_pairs_are_those_of_brute_force(data):
    base = "关于下列国际环境条约通过年份的说法中符合史实的是哪一项请选择正确答案"
    edit = st.tuples(st.integers(0, len(base) - 1), st.sampled_from("甲乙丙丁"))
    texts = []
    for edits in data.draw(st.lists(st.lists(edit, max_size=6), min_size=2, max_size=MOST)):
        text = base
        for at, character in edits:
            text = text[:at] + character + text[at + 1 :]
        texts.append(text)

    found = pairs(texts, near(0.6, ngram=3))

    expected = {
        (first, second): jaccard(texts[first], texts[second], 3)
        for first, second in combinations(range(len(texts)), 2)
        if jaccard(texts[first], texts[second], 3) >= 0.6
    }
    assert {pair for pair, similarity in expected.items() if similarity > 0.7} <= found.keys()
    assert found.items() <= expected.items()


def test_nearly_all_pairs_at_the_threshold_are_found():
    texts = [key(record) for record in many_records(400)]
    expected = {(a, b) for a, b in combinations(range(len(texts)), 2) if jaccard(texts[a], texts[b], 5) >= 0.5}

    found = pairs(texts, near(0.5)).keys()

    assert found <= expected
    assert len(found) >= 0.99 * len(expected) > 100


@pytest.mark.parametrize("length", [8, 30, 100, 600])
@pytest.mark.parametrize("shared", [0.3, 0.6, 0.9])
def test_sketches_estimate_the_similarity_of_short_texts_and_long(length, shared):
    draw = np.random.default_rng(7)
    common = round(shared * length)
    ones, others, exact = [], [], []
    for _ in range(200):
        letters = "".join(map(chr, draw.integers(0x4E00, 0x9000, 2 * length)))
        ones.append(letters[:length])
        others.append(letters[:common] + letters[length : 2 * length - common])
        exact.append(jaccard(ones[-1], others[-1], 1))
    settings = near(0.5, ngram=1)

    estimate = (sketch(ones, settings) == sketch(others, settings)).mean(axis=1)

    # Independent permutations deviate by sqrt(J (1 - J) / 128); a byte is equal by chance once in 256.
    expected = np.array(exact) + (1 - np.array(exact)) / 256
    deviation = np.sqrt(np.mean(expected * (1 - expected)) / 128)
    assert abs(np.mean(estimate - expected)) < 4 * deviation / np.sqrt(200)
    assert np.std(estimate - expected) < 1.2 * deviation


def test_a_crowd_of_equals_is_joined_and_costs_a_few_candidates_a_row():
    draw = np.random.default_rng(7)
    base = "".join(map(chr, draw.integers(0x4E00, 0x9000, 300)))
    texts = [base[:at] + "甲" + base[at + 1 :] for at in draw.integers(0, 300, 1000).tolist()]

    found = candidates(sketch(texts, near(0.9)), near(0.9))

    assert np.bincount(found.second).max() == MOST > 1
    assert set(found.second.tolist()) == set(range(1, 1000))
    # Each is reached from the first.
    reached = {0}
    for first, second in zip(found.first.tolist(), found.second.tolist(), strict=True):
        if first in reached:
            reached.add(second)
    assert reached == set(range(1000))


def test_a_twin_is_found_among_a_thousand_siblings_that_share_bands_with_it():
    draw = np.random.default_rng(7)
    letters = list(map(chr, draw.integers(0x4E00, 0x9000, 20_000).tolist()))
    frame = letters[:240]
    texts = [
        "".join(frame[:120] + draw.choice(letters, 60).tolist() + frame[120:]) for _ in range(1000)
    ]  # each as similar as 0.65 to each other
    planted = range(0, 1000, 10)
    texts += [texts[row][:150] + "甲乙" + texts[row][152:] for row in planted]
    one = near(0.9)
    signature = sketch(texts, one)
    largest = max(np.unique(signature[:, :8], axis=0, return_counts=True)[1])

    found = pairs(texts, one)

    assert largest > CROWD
    assert {(row, 1000 + number) for number, row in enumerate(planted)} <= found.keys()


def test_labels_and_alike_keep_rows_apart():
    signature = sketch(["甲乙丙丁戊己庚辛"] * 4, near(0.9))
    labels = np.array([1, 2, 1, 1], np.uint64)

    labelled = candidates(signature, near(0.9), labels)
    alike = candidates(signature, near(0.9), labels, lambda first, second: second < 3)

    assert list(zip(labelled.first.tolist(), labelled.second.tolist(), strict=True)) == [(0, 2), (0, 3), (2, 3)]
    assert list(zip(alike.first.tolist(), alike.second.tolist(), strict=True)) == [(0, 2)]


def test_similarities_are_exact():
    texts = [key(record) for record in many_records(60)]
    first, second = (np.array(side) for side in zip(*combinations(range(60), 2), strict=True))

    found = similarities(texts, first, second, 5)

    assert found.tolist() == [jaccard(texts[a], texts[b], 5) for a, b in combinations(range(60), 2)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_bands_catch_pairs_at_the_threshold(threshold):
    count, rows = bands(128, threshold)

    assert count * rows <= 128
    assert 1 - (1 - threshold**rows) ** count >= RECALL


@pytest.mark.parametrize("texts", [[], ["甲"], ["", ""], ["甲", "甲"], ["\ud800" * 6] * 2, ["👩\u200d🚀"] * 2])
def test_few_and_short_texts_are_texts(texts):
    assert pairs(texts, near(0.9, permutations=16)) == ({(0, 1): 1.0} if len(texts) == 2 else {})


@pytest.mark.parametrize("permutations", [1, 9, 128])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_any_setting_is_a_setting(permutations, threshold):
    assert len(pairs(["甲乙丙丁"] * 3, near(threshold, permutations=permutations))) == 3
