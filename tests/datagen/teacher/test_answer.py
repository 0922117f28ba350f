"""Answers are found by a question's text, right for questions worked out by hand and for none that is spoiled."""

import ast
from pathlib import Path

import pytest

from datagen.teacher import answer, forms, frames, sheets
from schemas.faults import Fault
from tests.datagen.teacher.composed import TOPICS, composed


def answered(question: str, options: tuple[str, str, str, str], topic: str = "economy") -> str:
    sheet = sheets.read(topic)
    return options[answer.solve(sheet, answer.question(topic, question), options)]


YEARS = ("1957年", "1958年", "1969年", "1991年")
TREATIES = ("《罗马条约》", "《卡塔赫纳协定》", "《亚松森条约》", "《阿布贾条约》")
BODIES = ("国际清算银行", "石油输出国组织", "亚洲开发银行", "欧洲中央银行")
TERMS = ("体面劳动", "一揽子油价", "综合领先指标", "普遍优惠制")
MEANINGS = (
    "银行向央行借入一周资金的成本",
    "自由公平安全且有尊严的工作",
    "预示经济周期转折点的数据",
    "成员国代表性产品的加权平均报价",
)
CLAIMS = ("这一说法有依据", "这一说法有误，应为1957年", "这一说法有误，应为1958年", "这一说法有误，应为1991年")
VERDICTS = ("两种说法都有依据", "只有甲的说法有依据", "只有乙的说法有依据", "两种说法都没有依据")
PAIRS = ("《罗马条约》：1969年", "《卡塔赫纳协定》：1957年", "《亚松森条约》：1991年", "《阿布贾条约》：1992年")
OPEC, WORK = "成员国代表性产品的加权平均报价", "自由公平安全且有尊严的工作"


@pytest.mark.parametrize(
    ("question", "options", "right"),
    [
        ("《罗马条约》是在哪一年签署的？", YEARS, "1957年"),
        ("《罗马条约》的生效年份是下列哪一项？", YEARS, "1958年"),
        ("下列哪一项经济条约于1991年签署？", ("《亚松森条约》", *TREATIES[:2], "《马拉喀什协定》"), "《亚松森条约》"),
        ("签署年份为1969年的经济条约是哪一项？", TREATIES, "《卡塔赫纳协定》"),
        ("下列哪一项经济条约于1991年签署，并且于1994年生效？", TREATIES, "《阿布贾条约》"),
        ("“体面劳动”指的是什么？", MEANINGS, WORK),
        ("下列哪一项是对“综合领先指标”的恰当解释？", MEANINGS, "预示经济周期转折点的数据"),
        (f"“{OPEC}”说的是下列哪一个经济概念？", TERMS, "一揽子油价"),
        (f"下列哪一个经济概念指的是“{WORK}”？", TERMS, "体面劳动"),
        (f"有一个经济概念指“{OPEC}”，它的推出机构是下列哪一项？", BODIES, "石油输出国组织"),
        ("体面劳动的推出机构的总部设在哪里？", ("巴黎", "日内瓦", "罗马", "马尼拉"), "日内瓦"),
        ("下列哪一项经济概念的推出机构的总部设在维也纳？", TERMS, "一揽子油价"),
        (
            f"有一个经济概念指“{OPEC}”。它的推出机构是在哪一年成立的？",
            ("1919年", "1945年", "1960年", "1998年"),
            "1960年",
        ),
        ("下列经济机构中，成立年份最早的是哪一项？", BODIES, "国际清算银行"),
        ("下列经济机构中，成立年份最晚的是哪一项？", BODIES, "欧洲中央银行"),
        ("将下列经济机构按成立年份由早到晚排列，排在第二位的是哪一项？", BODIES, "石油输出国组织"),
        (
            "与石油输出国组织相比，下列哪一项经济机构的成立年份更早？",
            ("亚洲开发银行", *BODIES[::3], "联合国贸易和发展会议"),
            "国际清算银行",
        ),
        ("与亚洲开发银行相比，下列哪一项经济机构的成立年份更晚？", BODIES, "欧洲中央银行"),
        ("有人说：“《罗马条约》于1957年签署。”下列哪一项评价最恰当？", CLAIMS, "这一说法有依据"),
        ("有人说：“《罗马条约》于1969年签署。”下列哪一项评价最恰当？", CLAIMS, "这一说法有误，应为1957年"),
        (
            "甲说：“《罗马条约》于1969年签署。”乙说：“体面劳动由国际劳工组织推出。”对这两种说法，下列哪一项评价最恰当？",
            VERDICTS,
            "只有乙的说法有依据",
        ),
        ("下列各组经济条约与签署年份，哪一组的对应有资料依据？", PAIRS, "《亚松森条约》：1991年"),
    ],
)
def test_a_question_worked_out_by_hand_gets_its_answer(question: str, options, right: str) -> None:
    assert answered(question, options) == right


@pytest.mark.parametrize("frame", frames.ALL)
def test_a_frame_changes_nothing(frame: str) -> None:
    assert answered(frame + "《罗马条约》是在哪一年签署的？", YEARS) == "1957年"


@pytest.mark.parametrize(
    ("question", "options", "count"),
    [
        ("《罗马条约》是在哪一年签署的？", ("1958年", "1969年", "1973年", "1991年"), 0),
        ("《罗马条约》是在哪一年签署的？", ("1957年", "1957年", "1973年", "1991年"), 2),
        ("下列哪一项经济条约于1991年签署？", TREATIES, 2),
        ("与欧洲中央银行相比，下列哪一项经济机构的成立年份更早？", (*BODIES[:3], "国际劳工组织"), 4),
        ("下列经济条约中，签署年份最晚的是哪一项？", TREATIES, 0),  # two of them in the same year
        ("下列经济机构中，成立年份最早的是哪一项？", (*BODIES[:3], "火星银行"), 0),
        ("有人说：“《罗马条约》于1957年签署。”下列哪一项评价最恰当？", ("甲", "乙", "丙", "丁"), 0),
    ],
)
def test_a_spoiled_question_is_not_guessed_at(question: str, options, count: int) -> None:
    with pytest.raises(Fault, match=f"the embedded teacher finds {count} right options"):
        answered(question, options)


@pytest.mark.parametrize(
    "question",
    [
        "谁是最伟大的经济学家？",
        "《巴黎协定》是在哪一年通过的？",
        "有人说：“《罗马条约》很重要。”下列哪一项评价最恰当？",
        "甲说：“《罗马条约》于1957年签署。”乙说：“天会塌。”对这两种说法，下列哪一项评价最恰当？",
        "据说《罗马条约》是在哪一年签署的？",
    ],
)
def test_a_question_that_is_not_from_the_sheet_is_not_known(question: str) -> None:
    with pytest.raises(Fault, match="knows no such question"):
        answered(question, YEARS)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_place_of_an_option_makes_no_difference(topic: str) -> None:
    for _, _, item in composed(topic, full=False, seeds=range(3)):
        a, b, c, d = item.options

        assert answered(item.question, (a, b, c, d), topic) == answered(item.question, (d, c, b, a), topic)


@pytest.mark.parametrize("topic", TOPICS)
def test_no_text_of_a_sheet_can_be_understood_in_two_ways(topic: str) -> None:
    assert len(answer.claims(topic)) > 100
    assert all(answer.question(topic, text) for text in answer._questions(topic))


def test_a_text_that_could_be_understood_in_two_ways_is_refused() -> None:
    with pytest.raises(Fault, match=r"economy\.yaml: '甲' can be understood in two ways"):
        answer._by_text("economy", iter([("甲", 1), ("乙", 2), ("甲", 3)]))


@pytest.mark.parametrize(("module", "stranger"), [(answer, "forms"), (answer, "compose"), (forms, "answer")])
def test_the_forms_and_the_answers_know_nothing_of_each_other(module, stranger: str) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if name
    }

    assert not {name for name in imported if name.split(".")[-1] == stranger}
