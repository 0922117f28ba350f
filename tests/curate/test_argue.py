import pytest

from curate.argue import argue
from tests.curate.builders import a_record


def test_a_pair_argues_the_same_chain_to_a_wrong_option():
    record = a_record(steps=("《巴黎协定》于2015年通过，不是2016年。", "2015年（B）"))

    argued = argue(record, "C")

    assert argued.how == "text"
    assert argued.record.steps == ("《巴黎协定》于2016年通过，不是2015年。", "2016年（C）")
    assert argued.record.answer == "C"
    assert (argued.record.question, argued.record.options) == (record.question, record.options)


@pytest.mark.parametrize(
    ("changes", "wrong", "steps", "how"),
    [
        ({"steps": ("选项B. 2015年正确，选项C错误。",)}, "C", ("选项C. 2016年正确，选项B错误。",), "text"),
        ({"steps": ("12015年与2015年1月",)}, "C", ("12015年与2016年1月",), "text"),
        ({"steps": ("理由从略，故选B。",)}, "C", ("理由从略，故选C。",), "letters"),
        ({"steps": ("A国先加入，故选B。",)}, "C", ("A国先加入，故选C。",), "conclusion"),
        ({"steps": ("A国先加入。",)}, "C", ("A国先加入。",), "output"),
        ({"steps": ("理由从略。",)}, "C", ("理由从略。",), "output"),
        ({"steps": ("水是最常见的。",), "options": ("铁", "水", "金", "木")}, "C", ("水是最常见的。",), "output"),
        ({"steps": ("甲乙丙成立。",), "options": ("甲", "甲乙", "丁丁", "甲乙丙")}, "C", ("甲乙丙成立。",), "output"),
        (
            {"steps": ("甲乙成立，甲乙丙不成立。",), "options": ("甲", "甲乙", "丁丁", "甲乙丙")},
            "C",
            ("丁丁成立，甲乙丙不成立。",),
            "text",
        ),
        (
            {"question": "2015年还是2016年通过？", "steps": ("题目问：2015年还是2016年通过？", "2015年通过。")},
            "C",
            ("题目问：2015年还是2016年通过？", "2016年通过。"),
            "text",
        ),
        ({"steps": ("x = 3。",), "options": ("1", "3", "13", "5")}, "C", ("x = 13。",), "text"),
        ({"steps": ("x = 13 / 3。",), "options": ("1", "3", "7", "5")}, "C", ("x = 13 / 7。",), "text"),
    ],
)
def test_only_what_names_the_two_options_changes(changes, wrong, steps, how):
    record = a_record(**changes)

    argued = argue(record, wrong)

    assert argued.record.steps == steps
    assert argued.how == how


def test_arguing_twice_gives_the_chain_back():
    record = a_record(steps=("选项C为2016年，选项B为2015年。", "故选B。"))

    argued = argue(argue(record, "D").record, "B")

    assert argued.record == record
