import json
from pathlib import Path
from time import process_time

import pytest

from train.answers import STRATEGIES, accuracy, answer, extract

REPLIES = [json.loads(line) for line in Path(__file__).with_name("replies.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("text", "letter", "strategy"),
    [
        ("B", "B", "first_character"),
        ("  B\n", "B", "first_character"),
        ("B.", "B", "first_character"),
        ("B. 日内瓦", "B", "first_character"),
        ("Ｂ。因为总部设在日内瓦", "B", "first_character"),
        ("B：日内瓦", "B", "first_character"),
        ("B、日内瓦", "B", "first_character"),
        ("(B) Geneva", "B", "first_character"),
        ("（B）日内瓦", "B", "first_character"),
        ("【B】", "B", "first_character"),
        ("**B**", "B", "first_character"),
        ("选项B。", "B", "first_character"),
        ("B\n理由：总部设在日内瓦", "B", "first_character"),
        ("<reasoning><step>A股是人民币普通股票</step></reasoning>\n<output>B</output>", "B", "output_tag"),
        ("<output> Ｃ </output>", "C", "output_tag"),
        ("<output>A</output> 更正 <output>B</output>", "B", "output_tag"),
        ("答案：B", "B", "answer_phrase"),
        ("答案:B", "B", "answer_phrase"),
        ("正确答案是B", "B", "answer_phrase"),
        ("正確答案應該是（B）", "B", "answer_phrase"),
        ("答案应为选项 B。", "B", "answer_phrase"),
        ("**答案**：B", "B", "answer_phrase"),
        ("Answer: B", "B", "answer_phrase"),
        ("So the answer is B.", "B", "answer_phrase"),
        ("The correct answer is (B).", "B", "answer_phrase"),
        ("答案：A？再看一遍，答案：B", "B", "answer_phrase"),
        ("A股市场成立较晚，答案是C", "C", "answer_phrase"),
        ("选择B，因为这是唯一正确的", "B", "expression"),
        ("選擇B，因為這是唯一正確的", "B", "expression"),
        ("综上，应选 D", "D", "expression"),
        ("不选A，应当选C", "C", "expression"),
        ("因此 B 是正确的，A 不是", "B", "claim"),
        ("I would choose option B here", "B", "expression"),
        ("B is correct since the seat is in Geneva", "B", "claim"),
        (r"\boxed{B}", "B", "expression"),
        ("日内瓦（B）\n", "B", "position"),
        ("先看各项\n日内瓦（B）", "B", "position"),
        ("A、B都提到日内瓦，B更准确", "B", "claim"),
    ],
)
def test_a_letter_is_found_and_so_is_how(text, letter, strategy):
    assert extract(text) == (letter, strategy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "这个问题很复杂",
        "A股",
        "APEC",
        "A股市场近年扩大",
        "B超检查",
        "A.I. is a field",
        "DNA",
        "E",
        "不能确定",
        "C919",
    ],
)
def test_no_letter_is_read_into_words(text):
    assert extract(text) is None


@pytest.mark.parametrize(
    "text",
    ["A股市场成立较晚", "A country may decide", "A、B、C都对", "A, B and C", "APEC成立于1989年", "D.C. is a city"],
)
def test_a_first_character_that_begins_a_word_or_a_list_is_no_answer(text):
    assert STRATEGIES["first_character"](text, 0) is None


@pytest.mark.parametrize("text", ["答案不是A", "the answer is not A", "不选A", "A是不正确的"])
def test_a_negation_is_no_answer_phrase(text):
    assert STRATEGIES["answer_phrase"](text, 0) is None
    assert STRATEGIES["expression"](text, 0) is None
    assert STRATEGIES["claim"](text, 0) is None


def test_without_a_letter_the_id_draws_one_always_the_same():
    assert answer("不知道", "q7") == answer("", "q7")
    assert answer("不知道", "q7")[1] == "none"
    assert len({answer("", f"q{n}")[0] for n in range(40)}) == 4


def read(row):
    return extract(row["reply"]) or (None, None)


@pytest.mark.parametrize("row", REPLIES, ids=lambda row: row["id"])
def test_a_reply_is_read_as_a_person_reads_it(row):
    """A row that has `read` is one the ladder is known not to read as it should: what it reads is there."""
    letter, strategy = read(row)

    assert letter == row.get("read", row["letter"])
    assert "read" in row or strategy == row["strategy"]


def test_the_letters_read_are_nearly_always_right_and_few_are_missed():
    given = [(row["letter"], letter) for row in REPLIES if (letter := read(row)[0])]
    right = sum(letter == of for of, letter in given)

    assert len(REPLIES) >= 240
    assert len({row["reply"] for row in REPLIES}) > 0.98 * len(REPLIES)
    assert right / len(given) >= 0.99
    assert right / sum(row["letter"] is not None for row in REPLIES) >= 0.95


@pytest.mark.parametrize("language", ["zh-Hans", "zh-Hant", "en"])
def test_each_language_is_read_as_well(language):
    rows = [row for row in REPLIES if row["language"] == language]
    given = [(row["letter"], letter) for row in rows if (letter := read(row)[0])]

    assert sum(of == letter for of, letter in given) / len(given) >= 0.99


@pytest.mark.parametrize(
    "unit",
    [
        *(
            " ",
            "\n",
            "A",
            "A ",
            "A、",
            "(",
            '"',
            "答案",
            "答案是 ",
            "answer is ",
            "选",
            "<think>",
            "<output>",
            "\\boxed{",
        ),
        *(
            "等等，",
            "wait, ",
            "A. x\n",
            "B正确，",
            "so ",
            "only option a a ",
            "change a b c ",
            "日内瓦（",
            "答案是" + "日" * 70,
        ),
    ],
)
def test_a_hostile_reply_takes_linear_time(unit):
    text = (unit * 100_000)[:100_000]

    start = process_time()
    extract(text)

    assert process_time() - start < 10  # a second or so; were it quadratic, minutes


def test_accuracy_counts():
    assert accuracy([True, False, True, True]) == {"n": 4, "accuracy": 0.75, "wilson95": [0.3006, 0.9544]}
