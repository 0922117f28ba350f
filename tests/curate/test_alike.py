import pytest

from curate.alike import Key, same, scattered
from tests.curate.builders import a_record

OTHERS = ("减少化石燃料的使用", "扩大森林的覆盖面积", "禁止捕杀濒危的动物")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("通过的年份", "通过的年份", True),
        ("联合国大会通过的决议", "联合国大会同过的决议", True),
        ("联合国大会通过的决议", "联合囯大会同过的决议", True),
        ("联合国大会通过的决议", "联合国大会决议", False),  # three in a row
        ("保护臭氧层的公约", "保护海洋层的公约", True),
        ("保护臭氧层的公约", "防止荒漠化的公约", False),
        ("甲乙", "甲丙", True),
        ("甲乙", "丙丁", False),
        ("", "甲", False),
    ],
)
def test_a_text_with_characters_changed_here_and_there_is_the_same_text(one, other, expected):
    assert scattered(one, other) is expected


@pytest.mark.parametrize("key", ["question", "body"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"answer": "A", "options": ("限制废气的跨境转移", *OTHERS)}, True),  # one character of a long answer
        ({"answer": "A", "options": ("限制废物的跨境转移", *OTHERS[::-1])}, True),
        ({"answer": "B", "options": ("限制废物的跨境转移", *OTHERS)}, False),  # another option
        ({"answer": "A", "options": ("不限制废物跨境转移", *OTHERS)}, False),
        ({"answer": "A", "options": ("限制3类废物跨境转移", *OTHERS)}, False),
        ({"answer": "A", "options": ("鼓励各国的信息公开", *OTHERS)}, False),
        ({"question": "《巴塞尔公约》最主要的目的是哪一项？"}, True),
        ({"question": "《巴塞尔公约》不主要的目的是哪一项？"}, False),
        ({"question": "1989年《巴塞尔公约》的主要目的是哪一项？"}, False),
        ({"question": "《斯德哥尔摩公约》的主要目的是哪一项？"}, False),
        ({"question": "《巴塞罗公约》的主要目的是哪一项？"}, True),  # a slip: the chain keeps the name
        (
            {"question": "《巴塞罗公约》的主要目的是哪一项？", "steps": ("《巴塞罗公约》控制越境转移。",)},
            False,
        ),  # another name
    ],
)
def test_two_near_rows_are_one_if_they_ask_and_answer_alike(key: Key, changes, expected):
    one = {
        "question": "《巴塞尔公约》的主要目的是哪一项？",
        "options": ("限制废物的跨境转移", *OTHERS),
        "steps": ("《巴塞尔公约》控制越境转移。",),
        "answer": "A",
    }

    assert same(a_record(**one), a_record(**one | changes), key) is expected
    assert same(a_record(**one | changes), a_record(**one), key) is expected


@pytest.mark.parametrize(
    ("options", "question", "body"),
    [
        (("老舍", "鲁迅", "茅盾", "巴金"), True, True),
        (("老会", "鲁迅", "茅盾", "巴金"), True, True),  # a character of a short answer, the others as they were
        (("老会", "曹禺", "茅盾", "巴金"), False, False),
        (("老舍", "曹禺", "茅盾", "巴金"), True, False),  # the same question with another distractor
        (("老舍", "鲁迅", "茅盾", "巴人"), True, True),
        (("舒庆", "鲁迅", "茅盾", "巴金"), False, False),
    ],
)
def test_short_answers_count_by_the_company_they_keep(options, question, body):
    one = a_record(question="《四世同堂》的作者是谁？", options=("老舍", "鲁迅", "茅盾", "巴金"), answer="A")
    other = a_record(question="《四世同堂》的作者是谁？", options=options, answer="A")

    assert same(one, other, "question") is question
    assert same(one, other, "body") is body


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("vitamin A", "vitamin B"),
        ("DNA", "RNA"),
        ("It is true", "It is not true"),
        ("It can be", "It can't be"),
        ("x+1=2", "x-1=2"),
        ("a<b", "a>b"),
        ("１９８９年", "1990年"),
        ("二十世纪", "三十世纪"),
        ("正确的是", "错误的是"),
    ],
)
def test_signs_and_single_letters_tell_questions_apart(one, other):
    frame = "Which statement about this {} holds for the whole of the following and nothing else?"
    rows = [a_record(question=frame.format(text)) for text in (one, other)]

    assert not same(*rows, "question")
    assert same(rows[0], rows[0], "question")
