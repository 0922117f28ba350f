import re

import pytest

from datagen import prompts
from datagen.prompts import Cell
from datagen.teacher.replies import Asked, asked
from schemas import chain
from schemas.chain import ANSWER, ITEM, JUDGEMENT, Malformed, parse_as
from schemas.params import Topic, Wording
from schemas.record import Item
from tests.curate.builders import an_item

CELL = Cell(
    ("economy", Topic("经济发展", 1, 0)), ("basic", Wording("基础", "一步")), ("factual", Wording("事实性", "事实"))
)
THE_ITEM = an_item(question="若 A<B，问：《巴黎协定》是在哪一年通过的？", adjustment="改。")
ABOUT = {
    "verify": prompts.verify(CELL, THE_ITEM),
    "judge": prompts.judge(CELL, THE_ITEM),
    "improve": prompts.improve(CELL, THE_ITEM, "题干\n  太短；（full）", full=False),
    "vary": prompts.vary(CELL, THE_ITEM, "context_change", full=True),
    "contrast": prompts.contrast(CELL, THE_ITEM, "biased", full=False),
    "translate": prompts.translate(CELL, THE_ITEM, "zh_hant"),
}


def the_messages(*, full: bool):
    return prompts.write(
        ("economy", Topic("经济发展", 1, 0)),
        ("basic", Wording("基础", "一步")),
        ("factual", Wording("事实性", "事实")),
        full=full,
    )


@pytest.mark.parametrize("full", [True, False])
def test_the_example_in_the_prompt_obeys_the_schema(full):
    user = the_messages(full=full)[1].content

    item = chain.parse(re.search(r"<item>.*</item>", user, re.DOTALL)[0])

    assert isinstance(item, Item)
    assert (item.adjustment is not None) is full


@pytest.mark.parametrize(("full", "word"), [(True, "full"), (False, "short")])
def test_the_prompt_names_the_question_so_that_the_embedded_teacher_reads_it(full, word):
    user = the_messages(full=full)[1].content

    assert asked(user) == Asked("economy", "basic", "factual", word)
    assert "主题：经济发展（economy）\n难度：基础（basic）\n题型：事实性（factual）\n推理链：" in user


@pytest.mark.parametrize("wish", ["恰好四个选项", "恰好一个正确", "XML", "一步一个 step"])
def test_the_prompt_asks_for_four_options_one_right_in_xml(wish):
    assert wish in the_messages(full=True)[1].content


@pytest.mark.parametrize("wish", ["中立", "不同立场"])
def test_the_system_text_asks_for_neutrality_and_several_views(wish):
    system = the_messages(full=True)[0]

    assert system.role == "system"
    assert wish in system.content


def test_a_reask_holds_the_bad_reply_and_what_was_wrong():
    first = the_messages(full=False)

    found = prompts.reask(first, "<item>", Malformed("not_xml", "Premature end & <item>"), "item")

    assert found[:2] == first
    assert [message.role for message in found[2:]] == ["assistant", "user"]
    assert found[2].content == "<item>"
    assert "not_xml：Premature end & <item>" in found[3].content


def test_an_empty_reply_is_not_sent_back_empty():
    found = prompts.reask(the_messages(full=False), " ", Malformed("empty", "the reply is empty"), "item")

    assert found[2].content == "（空）"


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("item", "把这道题重新完整输出一遍。仍然只输出一个 XML 文档（从 <item> 到 </item>）"),
        ("answer", "把作答重新完整输出一遍。仍然只输出一个 XML 文档（从 <answer> 到 </answer>）"),
        ("judgement", "把评审重新完整输出一遍。仍然只输出一个 XML 文档（从 <judgement> 到 </judgement>）"),
    ],
)
def test_a_reask_names_the_document_that_was_asked_for(root, words):
    found = prompts.reask(the_messages(full=False), "x", Malformed("not_xml", "y"), root)

    assert words in found[-1].content


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("verify", {}),
        ("judge", {}),
        ("improve", {"chain": "short"}),
        ("vary", {"chain": "full", "variation": "context_change"}),
        ("contrast", {"chain": "short", "contrast": "biased"}),
        ("translate", {"target": "zh_hant"}),
    ],
)
def test_every_kind_names_itself_and_its_cell_so_that_the_embedded_teacher_reads_it(kind, more):
    user = ABOUT[kind][-1].content

    assert asked(user) == Asked(topic="economy", difficulty="basic", type="factual", kind=kind, **more)


@pytest.mark.parametrize("kind", ["judge", "improve", "vary", "contrast", "translate"])
def test_an_item_is_handed_over_as_it_is_written_before_any_example(kind):
    user = ABOUT[kind][-1].content

    assert user.index(chain.write(THE_ITEM)) == user.index("<item>")


def test_a_question_to_be_answered_shows_its_options_in_lines_and_nothing_of_the_answer():
    user = ABOUT["verify"][-1].content

    assert f"\n问题：{THE_ITEM.question}\nA. 2012年\nB. 2015年\nC. 2016年\nD. 2018年\n" in user
    assert not any(text in user for text in (THE_ITEM.think, *THE_ITEM.steps, THE_ITEM.reflection))
    assert user == prompts.verify(CELL, an_item(question=THE_ITEM.question, answer="D"))[-1].content


def test_the_feedback_is_one_line_whatever_the_judge_wrote():
    assert "\n意见：题干 太短；（full）\n" in ABOUT["improve"][-1].content


@pytest.mark.parametrize(
    ("kind", "form"), [("verify", ANSWER), ("judge", JUDGEMENT), ("improve", ITEM), ("vary", ITEM), ("contrast", ITEM)]
)
def test_the_example_of_every_kind_obeys_the_schema(kind, form):
    user = ABOUT[kind][-1].content
    start = user.rindex(f"<{form.root}>")

    assert not isinstance(parse_as(form, user[start:]), Malformed)


@pytest.mark.parametrize(
    ("kind", "messages", "wish"),
    [
        ("improve", ABOUT["improve"], "output 仍是 B"),
        ("translate", ABOUT["translate"], "output 仍是 B"),
        ("biased", ABOUT["contrast"], "output 仍是 B"),
        ("wrong", prompts.contrast(CELL, THE_ITEM, "wrong", full=False), "output 不能是 B"),
        ("contrast", ABOUT["contrast"], "逐字照抄"),
        ("parameters", prompts.vary(CELL, THE_ITEM, "parameter_change", full=False), "按新的条件重新推出答案"),
        ("practice", prompts.vary(CELL, THE_ITEM, "practical_application", full=False), "具体情形"),
        ("judge", ABOUT["judge"], "难度的含义：一步。"),
    ],
)
def test_a_prompt_says_what_its_reply_is_held_to(kind, messages, wish):
    assert wish in messages[-1].content


@pytest.mark.parametrize(("kind", "roles"), [("improve", 2), ("vary", 2), ("contrast", 1), ("judge", 1), ("verify", 1)])
def test_only_authors_are_told_to_be_neutral_authors(kind, roles):
    assert len(ABOUT[kind]) == roles
