import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.changes import changes

TEXTS = st.text(alphabet="巴黎协定，。 ab1", max_size=60)


def kinds(before: str, after: str, kind: str) -> list[str]:
    return [text for found, text in changes(before, after) if found == kind]


@given(TEXTS, TEXTS)
def test_both_texts_are_kept_whole(before, after):
    runs = changes(before, after)

    assert "".join(text for kind, text in runs if kind != "+") == before
    assert "".join(text for kind, text in runs if kind != "-") == after
    assert all(text for _, text in runs)
    assert all(one[0] != other[0] for one, other in pairwise(runs))


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        ("", "", []),
        ("通过", "通过", [("=", "通过")]),
        ("", "通过", [("+", "通过")]),
        ("通过", "", [("-", "通过")]),
        ("协定于2015年通过", "协定于2016年通过", [("=", "协定于"), ("-", "2015"), ("+", "2016"), ("=", "年通过")]),
        ("the cat sat here", "the dog sat here", [("=", "the "), ("-", "cat"), ("+", "dog"), ("=", " sat here")]),
        ("各国带头减排。", "各国率先减排。", [("=", "各国"), ("-", "带头"), ("+", "率先"), ("=", "减排。")]),
        # what little the texts have in common is not marked: it would only hide that all is new
        (
            "表述中立，依据资料。",
            "今天天气很好，去公园。",
            [("-", "表述中立，依据资料。"), ("+", "今天天气很好，去公园。")],
        ),
        # one equal character between two changes changes with them
        ("甲乙丙丁戊己庚辛", "甲乙子丁丑己庚辛", [("=", "甲乙"), ("-", "丙丁戊"), ("+", "子丁丑"), ("=", "己庚辛")]),
        # a short text that grows keeps what it was
        ("通过了。", "通过了。" + "后来又有人补充了许多" * 3, [("=", "通过了。"), ("+", "后来又有人补充了许多" * 3)]),
    ],
)
def test_changes_are_marked_by_word_and_in_chinese_by_character(before, after, runs):
    assert changes(before, after) == runs


LONG = "".join(f"第{n}步：先回忆背景，再比较选项{'ABCD'[n % 4]}与资料{n * 7919 % 1000}。" for n in range(230))


def test_one_change_in_a_long_text_is_found():
    assert kinds(LONG, LONG.replace("第115步", "第115点"), "-") == ["步"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LONG, LONG[::-1]),
        (LONG, "".join(letter for n, letter in enumerate(LONG) if n % 9)),
        ("的是" * 3000, "是的的" * 2000),
        ("。；" * 3000, "；；。" * 2000),
        ("甲" * 6000, "乙" * 6000),
        (LONG[:3000] + LONG[3000:], LONG[3000:] + LONG[:3000]),
        ("the of " * 900, "of the a " * 700),
    ],
)
def test_long_texts_are_compared_at_once(before, after):
    start = time.process_time()
    runs = changes(before, after)

    assert time.process_time() - start < 2
    assert "".join(text for kind, text in runs if kind != "+") == before
    assert "".join(text for kind, text in runs if kind != "-") == after
