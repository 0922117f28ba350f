from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.similar import RECALL, Clusters, Grams, bands, fold, key, nearest, pairs
from tests.curate.builders import an_item, many_records


def shingles(text: str, size: int) -> set[str]:
    return {text[at : at + size] for at in range(max(1, len(text) - size + 1))}


def jaccard(one: str, other: str, size: int) -> float:
    a, b = shingles(one, size), shingles(other, size)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("《巴黎协定》于２０１５年通过。", "巴黎协定于2015年通过"),
        ("“A”, B", "A B"),
        ("Ａ－Ｂ", "A-B"),
        ("1,000 元", "1000元"),
        ("甲：乙、丙；丁！", "甲乙丙丁"),
        ("x − 1", "x-1"),
        ("end.", "end"),
    ],
)
def test_width_space_and_punctuation_do_not_tell_questions_apart(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5", "15"),
        ("-3", "3"),
        ("x+1", "x-1"),
        ("1:2", "12"),
        ("50%", "50"),
        ("n!", "n"),
        ("a/b", "ab"),
        ("是", "不是"),
        ("a<b", "a>b"),
        ("f(x)", "fx"),
        ("2(a+b)", "2a+b"),
        ("DNA", "dna"),
        ("10^2", "102"),
        ("-(-3)", "--3"),
    ],
)
def test_what_tells_formulas_apart_stays(one, other):
    assert fold(one) != fold(other)


def test_a_key_ignores_the_order_of_options_but_not_their_bounds():
    assert key(an_item(options=("1", "2", "3", "4"))) == key(an_item(options=("4", "2", "3", "1")))
    assert key(an_item(options=("1", "23", "4", "5"))) != key(an_item(options=("12", "3", "4", "5")))


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
    for edits in data.draw(st.lists(st.lists(edit, max_size=6), min_size=2, max_size=20)):
        text = base
        for at, character in edits:
            text = text[:at] + character + text[at + 1 :]
        texts.append(text)

    found = pairs(texts, ngram=3, permutations=128, threshold=0.6, seed=7)

    expected = {
        (first, second): jaccard(texts[first], texts[second], 3)
        for first, second in combinations(range(len(texts)), 2)
        if jaccard(texts[first], texts[second], 3) >= 0.6
    }
    missed = {pair: similarity for pair, similarity in expected.items() if similarity > 0.7}.keys() - {
        (pair.first, pair.second) for pair in found
    }
    assert not missed
    assert all(expected[pair.first, pair.second] == pair.similarity for pair in found)
    assert found == sorted(found)


def test_nearly_all_pairs_at_the_threshold_are_found():
    texts = [key(record) for record in many_records(400)]
    expected = {(a, b) for a, b in combinations(range(len(texts)), 2) if jaccard(texts[a], texts[b], 5) >= 0.5}

    found = {(p.first, p.second) for p in pairs(texts, ngram=5, permutations=128, threshold=0.5, seed=7)}

    assert found <= expected
    assert len(found) >= 0.99 * len(expected) > 100


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_bands_catch_pairs_at_the_threshold(threshold):
    count, rows = bands(128, threshold)

    assert count * rows <= 128
    assert 1 - (1 - threshold**rows) ** count >= RECALL


def test_the_nearest_row_is_that_of_brute_force():
    texts = [key(record) for record in many_records(120)]
    held, others = range(0, 120, 7), [row for row in range(120) if row % 7]

    for found in nearest(texts, held, others, 5):
        best = max(jaccard(texts[found.second], texts[other], 5) for other in others)
        assert found.similarity == best == jaccard(texts[found.second], texts[found.first], 5)


@pytest.mark.parametrize("texts", [[], ["甲"], ["", ""], ["甲", "甲"], ["\ud800" * 6] * 2])
def test_few_and_short_texts_are_texts(texts):
    found = pairs(texts, ngram=5, permutations=16, threshold=0.9, seed=0)

    assert [(pair.first, pair.second) for pair in found] == ([(0, 1)] if len(texts) == 2 else [])
    assert nearest(texts, [0] if texts else [], [], 5) == []


def test_clusters_are_joined_transitively():
    clusters = Clusters(6)
    for one, other in ((4, 1), (5, 4), (2, 3)):
        clusters.join(one, other)

    assert clusters.members() == [[0], [1, 4, 5], [2, 3]]
