import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.fold import fold, folded, key, keys
from tests.curate.builders import an_item


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
    assert folded([one]) == folded([other])


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


@given(
    st.lists(
        st.text(st.one_of(st.characters(), st.sampled_from("甲２１.:-/*%!()[]aé\u0301\u1161\uffff\n "))), max_size=4
    )
)
@example(["e\u0301", "한", "ﾊﾟ", "½", "㈱", "👩\u200d🚀🏽", "\ud800", "𝟏.𝟓", "", "\n\n", "ﷺ", "a\u0300\u0316"])
def test_texts_are_folded_together_as_each_is_alone(texts):
    assert folded(texts) == [fold(text) for text in texts]


def test_every_character_of_the_basic_plane_is_folded_together_as_alone():
    texts = [f"甲{chr(code)}1{chr(code)}" for code in range(0x10000)]

    assert folded(texts) == [fold(text) for text in texts]


def test_a_key_ignores_the_order_of_options_but_not_their_bounds():
    assert key(an_item(options=("1", "2", "3", "4"))) == key(an_item(options=("4", "2", "3", "1")))
    assert key(an_item(options=("1", "23", "4", "5"))) != key(an_item(options=("12", "3", "4", "5")))


def test_keys_are_the_key_of_each():
    items = [an_item(), an_item(question="Ｘ－１？", options=("d", "c", "b", "a"))]

    assert keys(items) == [key(item) for item in items]
    assert keys([]) == []
