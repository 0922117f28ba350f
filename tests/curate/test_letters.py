import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.letters import Unclear, chain_texts, conclude, find, letter_of, rewrite, speaks_of_others, with_chain
from schemas.record import LETTERS
from tests.curate.builders import a_record

OPTIONS = ("2012年", "2015年", "2016年", "2018年")
TURN = dict(zip("ABCD", "BCDA", strict=True))


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("选项B正确", "选项C正确"),
        ("选项 Ｂ 正确", "选项 Ｃ 正确"),
        ("B项符合题意", "C项符合题意"),
        ("B选项符合题意", "C选项符合题意"),
        ("2015年（B）", "2015年（C）"),
        ("2015年(B)", "2015年(C)"),
        ("答案是B。", "答案是C。"),
        ("答案：B", "答案：C"),
        ("正确答案为“D”。", "正确答案为“A”。"),
        ("因此选B。", "因此选C。"),
        ("故选择 D，理由如下", "故选择 A，理由如下"),
        ("应选B是因为", "应选C是因为"),
        ("B. 2015年是通过的年份", "C. 2015年是通过的年份"),
        ("A、2012年；B、2015年", "B、2012年；C、2015年"),
        ("选项A、C和D均不符", "选项B、D和A均不符"),
        ("A、C、D三项错误", "B、D、A三项错误"),
        ("ACD三项均可排除", "BDA三项均可排除"),
        ("A和C都不对", "B和D都不对"),
        ("B正确，C错误", "C正确，D错误"),
        ("option B is right", "option C is right"),
        ("Options A and C are wrong.", "Options B and D are wrong."),
        ("The answer is B.", "The answer is C."),
        ("the correct answer: (B)", "the correct answer: (C)"),
        ("選項B正確", "選項C正確"),
        ("B選項錯誤", "C選項錯誤"),
        ("故選B。", "故選C。"),
        ("故答案为Ｂ。", "故答案为Ｃ。"),
        ("故答案为（ B ）。", "故答案为（ C ）。"),
        ("选AB", "选BC"),
        ("ABCD四项均需比较", "BCDA四项均需比较"),
        ("A、B两项", "B、C两项"),
        ("“A”项错误", "“B”项错误"),
        ("排除A、C。", "排除B、D。"),
        ("只有B符合题意", "只有C符合题意"),
        ("A、C、D都早于2015年", "B、D、A都早于2015年"),
        ("A对，B错。", "B对，C错。"),
        ("答案不是A，", "答案不是B，"),
        ("**B**正确", "**C**正确"),
        ("答案是**B**。", "答案是**C**。"),
        ("**A.** 2012年偏早", "**B.** 2012年偏早"),
        ("B（2015年）", "C（2015年）"),
        ("2015年 (B) was", "2015年 (C) was"),
        ("于2015年通过（B）。", "于2015年通过（C）。"),
        ("\\boxed{B}", "\\boxed{C}"),
        ("A and B are wrong.", "B and C are wrong."),
        ("Options A, C, and D are wrong", "Options B, D, and A are wrong"),
        ("Option A's date is wrong.", "Option B's date is wrong."),
        ("Therefore, B is correct.", "Therefore, C is correct."),
        ("A can be ruled out.", "B can be ruled out."),
        ("choose B because", "choose C because"),
        ("The correct option is B.", "The correct option is C."),
    ],
)
def test_a_letter_that_names_an_option_is_led_along(text, turned):
    after = (OPTIONS[3], *OPTIONS[:3])

    assert rewrite(text, TURN, OPTIONS, after) == turned


@pytest.mark.parametrize(
    "text",
    [
        "",
        "没有字母",
        "DNA和RNA",
        "BBC与CCTV",
        "F-15与B52",
        "维生素C有助于吸收铁",
        "B细胞产生抗体",
        "A股市场",
        "C语言程序",
        "从选项A到D逐一比对",
        "Charter",
        "NATO",
        "ABBA",
        "5G与4K",
        "e.g. charter",
        "the answer is a treaty",
        "维生素A和D",
        "维生素（C）",
        "vitamin C",
        "B細胞",
        "C919大型客机",
        "CAFÉ与Düsseldorf",
        "Ａ到Ｄ逐一比对",
        "选C语言的人",
        "A treaty was signed.",
        "It failed. A similar rule holds: a country's law.",
    ],
)
def test_a_letter_in_a_name_stays(text):
    assert rewrite(text, TURN, OPTIONS, OPTIONS) == text


@pytest.mark.parametrize(
    "text",
    [
        "A国与B国签约",
        "Plan B",
        "U.S.A.",
        "C++",
        "D-Day",
        "CD光盘",
        "选C国的人",
        "选项A股票",
        "B. 2016年",
        "线虫，C. elegans",
        "A级",
        "选b",
        "答案是b",
        "option a",
        "第二个选项正确",
        "前两项错误",
        "最后一项",
        "Ⓑ正确",
        "选项依次为",
        "the last option",
        "当选A市市长",
        "C项目",
        "设A={1}",
        "集合A与B的交集",
        "Team A/B",
        "选项B、C语言",
        # a name, though it is judged or in brackets
        "方案B都可行",
        "方案B正确",
        "命题A正确",
        "说法B错误",
        "Plan B is wrong",
        "Hepatitis B is wrong",
        "血型（A）",
        "“A”级景区",
        "得了“A”",
        "附件（A）",
        "第3条B项规定",
        "P(A)=0.3",
        "f(A)，",
        "[A]=0.1",
        "∠A=30°",
        "线段AB与CD都平行",
        "△ABC都",
        "A∪B",
        "A+B=C",
        "甲A联赛",
        "理由：(A) 历史；(B) 现实",
        "John A. Smith",
        # a word or a number goes on after what leads to a letter
        "选项B2015年",
        "选B2C模式",
        "选项C919",
        "选项C-17",
        "optionB",
        "选B级",
        "答案是 A 国",
        "答案是A.I.",
        "答案是D.C.",
        "The answer is A treaty.",
        "The answer is C elegans",
        "C. 50 people",
        # an A that may be the option
        "A took place in 1990",
        "A violated it",
        "A refers to it",
        "A is a treaty",
        # some options by their order
        "选项A到C均不对",
        "选项A-C",
        "A到D依次为",
        "四个选项依次为",
        # by place, in lower case, by another name or in another script
        "第二個選項正確",
        "前兩項錯誤",
        "最後一個",
        "The second option is wrong",
        "the former choice",
        "选项1正确",
        "选项一正确",
        "Option 1 is right",
        "選b",
        "b项错误",
        "(b) is correct",
        "选В。",
        "𝐁正确",
        "🅱正确",
        "选甲",
        "甲项正确",
        "甲、乙两项错误",
        "乙正确",
        "答案是②。",
    ],
)
def test_a_letter_or_place_that_may_name_an_option_is_unclear(text):
    assert isinstance(rewrite(text, TURN, OPTIONS, OPTIONS), Unclear)


@pytest.mark.parametrize("text", ["答案是乙。", "选甲", "甲项"])
def test_what_an_option_is_called_is_no_place(text):
    assert find(text, ("甲", "乙", "丙", "丁")) == ()
    assert isinstance(find(text), Unclear)


@pytest.mark.parametrize(
    ("text", "clear"), [("C. 5 people", True), ("C. 50 people", False), ("5（C）", True), ("15（C）", False)]
)
def test_an_options_text_beside_its_letter_is_no_part_of_a_longer_one(text, clear):
    assert isinstance(find(text, ("1", "2", "5", "7")), Unclear) != clear


def test_an_options_own_text_is_no_reference():
    options = ("B细胞膜", "维生素K", "C级战犯", "T细胞")

    assert find("C级战犯与B细胞膜", options) == ()
    assert [r.letter for r in find("选项C是C级战犯", options)] == ["C"]


pieces = st.lists(
    st.sampled_from(
        [
            "选项",
            "选",
            "答案是",
            "（",
            "）",
            "A",
            "B",
            "C",
            "D",
            "Ｂ",
            "、",
            "和",
            "项",
            "正确",
            "。",
            " ",
            "股",
            "语言",
            "维生素",
            "细胞",
            "2015年",
            ". ",
            "option ",
            "answer is ",
            "x",
            "1",
            "三项",
            "到",
            "都",
            "AB",
            "\0",
            "\n",
            "，",
            "国",
            "：",
            "a",
            "第",
            "選項",
            "條",
            "方案",
            "故",
            "错误",
            "均",
            "、C",
            "（B）",
            "**",
            "“",
            "”",
            " is correct",
            " and ",
            "A treaty was",
            "C级战犯",
            "轮融资",
            "依次",
            "甲",
        ]
    ),
    max_size=12,
).map("".join)


@given(pieces, st.permutations(LETTERS))
def test_what_is_rewritten_can_be_led_back(text, order):
    there = dict(zip(LETTERS, order, strict=True))
    back = {new: old for old, new in there.items()}
    options = ("2015年", "B细胞", "C语言", "以色列")
    after = tuple(options[LETTERS.index(back[letter])] for letter in LETTERS)

    changed = rewrite(text, there, options, after)

    if not isinstance(changed, Unclear):
        assert rewrite(changed, back, after, options) == text
        references = find(text, options)
        assert {at for at, pair in enumerate(zip(text, changed, strict=True)) if pair[0] != pair[1]} <= {
            reference.at for reference in references
        }


@given(pieces, st.permutations(LETTERS))
def test_whether_a_letter_names_an_option_does_not_depend_on_which_it_is(text, order):
    there = dict(zip(LETTERS, order, strict=True))
    options = ("2015年", "联合国", "of", "以色列")
    after = tuple(options[order.index(letter)] for letter in LETTERS)

    changed = rewrite(text, there, options, after)

    if not isinstance(changed, Unclear):
        assert [r.at for r in find(changed, after)] == [r.at for r in find(text, options)]


@given(pieces)
def test_a_reference_is_a_capital_of_either_width(text):
    references = find(text)

    if not isinstance(references, Unclear):
        assert all(letter_of(text[r.at]) == r.letter for r in references)


@pytest.mark.parametrize(
    "option",
    [
        "以上都是",
        "以上皆非",
        "以上都不對",
        "以下均不是",
        "A和B",
        "All of the above",
        "None of these",
        "前两项都对",
        "選項A",
    ],
)
def test_an_option_that_depends_on_its_place_is_seen(option):
    assert speaks_of_others(option)


@pytest.mark.parametrize(
    "option",
    [
        "2015年",
        "联合国",
        "DNA",
        "维生素C",
        "The General Assembly",
        "《巴黎协定》",
        "三分之二以上",
        "above 50%",
        "A treaty of 1912",
    ],
)
def test_an_ordinary_option_does_not_depend_on_its_place(option):
    assert not speaks_of_others(option)


@pytest.mark.parametrize(
    ("text", "led"),
    [
        ("因此选B。", "因此选C。"),
        ("故選 B，", "故選 C，"),
        ("答案是（Ｂ）。", "答案是（Ｃ）。"),
        ("正确的选项为：B", "正确的选项为：C"),
        ("应选择B项", "应选择C项"),
        ("the answer is option B.", "the answer is option C."),
        ("答案不是B", "答案不是C"),
        ("不应选A，应选B", "不应选A，应选C"),
        ("选项B错误", "选项B错误"),
        ("2015年（B）", "2015年（B）"),
        ("答案是B国", "答案是B国"),
        ("所以选BBC", "所以选BBC"),
        ("", ""),
    ],
)
def test_a_conclusion_in_so_many_words_is_led_to_another_option(text, led):
    assert conclude(text, "B", "C") == led


@pytest.mark.parametrize("adjustment", [None, "改为B"])
def test_the_texts_of_a_chain_go_back_where_they_came_from(adjustment):
    record = a_record(adjustment=adjustment)

    assert with_chain(record, chain_texts(record)) == record
