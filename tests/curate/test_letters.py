import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.letters import Unclear, chain_texts, concluded, find, letter_of, rewrite, speaks_of_others, with_chain
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
    ],
)
def test_a_letter_in_a_name_stays(text):
    assert rewrite(text, TURN, OPTIONS, OPTIONS) == text


@pytest.mark.parametrize(
    "text",
    [
        "A国与B国签约",
        "Plan B",
        "A treaty was signed.",
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
    ],
)
def test_a_letter_or_place_that_may_name_an_option_is_unclear(text):
    assert isinstance(rewrite(text, TURN, OPTIONS, OPTIONS), Unclear)


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


@given(pieces)
def test_a_reference_is_a_capital_of_either_width(text):
    references = find(text)

    if not isinstance(references, Unclear):
        assert all(letter_of(text[r.at]) == r.letter for r in references)


@pytest.mark.parametrize(
    "option", ["以上都是", "以上皆非", "A和B", "All of the above", "None of these", "前两项都对", "选项A"]
)
def test_an_option_that_depends_on_its_place_is_seen(option):
    assert speaks_of_others(option)


@pytest.mark.parametrize("option", ["2015年", "联合国", "DNA", "维生素C", "The General Assembly", "《巴黎协定》"])
def test_an_ordinary_option_does_not_depend_on_its_place(option):
    assert not speaks_of_others(option)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("因此选B。", "B"),
        ("故选 C，", "C"),
        ("答案是（D）。", "D"),
        ("正确答案：Ａ", "A"),
        ("the answer is B.", "B"),
        ("应选择B项", "B"),
        ("答案不是B", ""),
        ("不应选B，应选C", "C"),
        ("不选B", ""),
        ("选项B错误", ""),
        ("B项符合", ""),
        ("答案是B国", ""),
        ("答案是A；答案是B。", "AB"),
        ("所以选DNA", ""),
        ("", ""),
    ],
)
def test_only_a_conclusion_in_so_many_words_counts(text, letters):
    assert concluded(text) == set(letters)


@pytest.mark.parametrize("adjustment", [None, "改为B"])
def test_the_texts_of_a_chain_go_back_where_they_came_from(adjustment):
    record = a_record(adjustment=adjustment)

    assert with_chain(record, chain_texts(record)) == record
