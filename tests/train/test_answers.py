import pytest

from train.answers import STRATEGIES, accuracy, answer, extract, wilson


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
        ("因此 B 是正确的，A 不是", "B", "expression"),
        ("I would choose option B here", "B", "expression"),
        ("B is correct since the seat is in Geneva", "B", "expression"),
        (r"\boxed{B}", "B", "expression"),
        ("日内瓦（B）\n", "B", "position"),
        ("先看各项\n日内瓦（B）", "B", "position"),
        ("A、B都提到日内瓦，B更准确", "B", "frequency"),
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
    assert STRATEGIES["first_character"](text) is None


@pytest.mark.parametrize("text", ["答案不是A", "the answer is not A", "不选A", "A是不正确的"])
def test_a_negation_is_no_answer_phrase(text):
    assert STRATEGIES["answer_phrase"](text) is None
    assert STRATEGIES["expression"](text) is None


def test_without_a_letter_the_id_draws_one_always_the_same():
    assert answer("不知道", "q7") == answer("", "q7")
    assert answer("不知道", "q7")[1] == "none"
    assert len({answer("", f"q{n}")[0] for n in range(40)}) == 4


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_agrees_with_published_values(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-4)


def test_accuracy_counts():
    assert accuracy([True, False, True, True]) == {"n": 4, "accuracy": 0.75, "wilson95": [0.3006, 0.9544]}
