import re

import pytest

from datagen import prompts
from datagen.teacher.replies import Asked, asked
from schemas import chain
from schemas.chain import Malformed
from schemas.params import Topic, Wording
from schemas.record import Item


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

    found = prompts.reask(first, "<item>", Malformed("not_xml", "Premature end & <item>"))

    assert found[:2] == first
    assert [message.role for message in found[2:]] == ["assistant", "user"]
    assert found[2].content == "<item>"
    assert "not_xml：Premature end & <item>" in found[3].content


def test_an_empty_reply_is_not_sent_back_empty():
    found = prompts.reask(the_messages(full=False), " ", Malformed("empty", "the reply is empty"))

    assert found[2].content == "（空）"
