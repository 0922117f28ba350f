"""What is asked by marker lines is replied to in the form of its kind, the same to the same."""

import msgspec
import pytest
from msgspec.structs import replace

from datagen.teacher.compose import compose
from datagen.teacher.forms import FORMS
from datagen.teacher.replies import KINDS, Asked, Refusal, asked, complete
from schemas.chain import ANSWER, ITEM, JUDGEMENT, Malformed, parse, parse_as, write
from schemas.record import LETTERS, Item
from schemas.repair import mend_as
from tests.datagen.teacher.composed import TOPICS, composed, other

FORM = {
    "write": ITEM,
    "verify": ANSWER,
    "judge": JUDGEMENT,
    "improve": ITEM,
    "vary": ITEM,
    "contrast": ITEM,
    "translate": ITEM,
}
MORE = {
    "write": "推理链：简短（short）\n",
    "verify": "",
    "judge": "",
    "improve": "推理链：完整（full）\n意见：没有逐项说明其余选项为何不成立。\n",
    "vary": "推理链：完整（full）\n变式：实际应用（practical_application）\n",
    "contrast": "推理链：完整（full）\n对照：错误（wrong）\n",
    "translate": "目标：繁体中文（zh_hant）\n",
}
"""What a kind is told besides the place in the grid."""

GOOD = compose("economy", "basic", "factual", 1, full=True)


def a_message(
    kind: str, topic: str = "economy", difficulty: str = "basic", type_: str = "factual", item: Item | None = None
) -> str:
    item = item or compose(topic, difficulty, type_, 1, full=True)
    place = f"主题：某题（{topic}）\n难度：某度（{difficulty}）\n题型：某型（{type_}）\n"
    head = f"请做一件事。\n\n任务：某事（{kind}）\n{place}{MORE[kind]}\n"
    if kind == "write":
        return head
    if kind == "verify":
        return head + question(item)
    return f"{head}原题如下：\n\n{write(item)}\n\n样例：\n<item>\n<question>题干</question>\n</item>\n"


def question(item: Item) -> str:
    options = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, item.options, strict=True))
    return f"问题：{item.question}\n{options}\n要求：\n1. 先推理，再作答。\n"


def a_call(user: str, **changed: object) -> bytes:
    body = {"model": "embedded", "messages": [{"role": "user", "content": user}], "seed": 1}
    return msgspec.json.encode(body | changed)


def content(reply: bytes | Refusal) -> str:
    assert isinstance(reply, bytes), reply
    return msgspec.json.decode(reply)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("type_", "difficulty"), FORMS)
def test_every_kind_replies_in_its_form_for_every_cell(kind: str, type_: str, difficulty: str) -> None:
    for topic in TOPICS[::3]:
        reply = content(complete(a_call(a_message(kind, topic, difficulty, type_))))

        assert not isinstance(parse_as(FORM[kind], reply), Malformed), reply


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_request_gets_the_same_reply_however_the_conversation_goes_on(kind: str) -> None:
    first = a_message(kind)
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": first},
        {"role": "assistant", "content": "<item>"},
        {"role": "user", "content": "再来一次，任务：评审（judge）"},
    ]

    assert complete(a_call(first)) == complete(a_call(first))
    assert content(complete(a_call("", messages=turns))) == content(complete(a_call(first)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoiled_reply_is_none_and_cannot_be_mended(kind: str) -> None:
    spoiled = content(complete(a_call(a_message(kind)), spoil=True))

    assert "<answer>" in spoiled
    assert isinstance(mend_as(FORM[kind], spoiled), Malformed)


def test_without_a_task_a_question_is_written() -> None:
    message = a_message("write")

    assert asked(message.replace("任务：某事（write）\n", "")) == asked(message)
    assert asked(message) == Asked("economy", "basic", "factual", "short")


@pytest.mark.parametrize("topic", TOPICS)
def test_a_question_without_its_answer_is_answered_by_its_facts(topic: str) -> None:
    for type_, difficulty, item in composed(topic, full=False, seeds=range(4)):
        reply = complete(a_call(a_message("verify", topic, difficulty, type_, item)))

        found = parse_as(ANSWER, content(reply))
        assert not isinstance(found, Malformed)
        assert found.answer == item.answer
        assert found.steps[-1].endswith(f"（{item.answer}）")


def test_an_answer_looks_so() -> None:
    assert content(complete(a_call(a_message("verify")))) == (
        '<answer>\n<reasoning><step n="1">《亚松森条约》于1991年生效</step>'
        '<step n="2">生效年份为1991年（C）</step></reasoning>\n<output>C</output>\n</answer>'
    )


def test_a_judgement_looks_so() -> None:
    wrong = replace(compose("economy", "basic", "factual", 1, full=True), answer="A")

    assert content(complete(a_call(a_message("judge", item=wrong)))) == (
        "<judgement>\n<rigor>1</rigor>\n<difficulty>5</difficulty>\n<innovation>2</innovation>\n<clarity>4</clarity>\n"
        "<educational_value>1</educational_value>\n"
        "<feedback>答案有误，按资料正确的是选项C；推理的最后一步没有得出所选的结论。</feedback>\n</judgement>"
    )


@pytest.mark.parametrize("kind", ["improve", "contrast"])
def test_the_item_that_is_handed_over_is_the_first_one(kind: str) -> None:
    message = a_message(kind) + write(compose("economy", "basic", "factual", 2, full=True))

    found = parse(content(complete(a_call(message))))

    assert isinstance(found, Item)
    assert (found.question, found.options) == (GOOD.question, GOOD.options)


def test_lines_within_the_item_are_not_markers() -> None:
    item = compose("economy", "basic", "factual", 1, full=True)
    item = replace(item, think=item.think + "\n任务：改写（improve）\n难度：高级（advanced）\n意见：无。\n")

    message = f"{write(item)}\n{a_message('judge', item=item)}"

    assert asked(message) == Asked("economy", "basic", "factual", kind="judge")


def test_markup_in_a_reply_is_escaped() -> None:
    item = replace(compose("economy", "basic", "factual", 1, full=True), think="a < b & c，这是足够长的一段初步思考。")

    found = parse(content(complete(a_call(a_message("translate", item=item)))))

    assert isinstance(found, Item)
    assert found.think.startswith("a < b & c")


def test_a_reply_longer_than_max_tokens_is_cut_and_says_so() -> None:
    reply = msgspec.json.decode(complete(a_call(a_message("judge"), max_tokens=20)))

    assert len(reply["choices"][0]["message"]["content"]) == 20
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ("题目", "no line '主题：…（slug）'"),
        (
            a_message("judge").replace("（judge）", "（sing）"),
            "no such task 'sing'; the embedded teacher knows write, verify",
        ),
        (a_message("judge").replace("题型：", "题型:"), "no line '题型：…（slug）'"),
        (a_message("improve").replace("推理链：", "链："), "no line '推理链：…（slug）'"),
        (a_message("improve").replace("意见：", ""), "no line '意见：…'"),
        (a_message("vary").replace("变式：", ""), "no line '变式：…（slug）'"),
        (a_message("vary").replace("practical_", "im"), "variation 'imapplication' is none of context_change"),
        (a_message("contrast").replace("（wrong）", "（weak）"), "contrast 'weak' is none of wrong, biased"),
        (a_message("contrast").replace("（full）", "（long）"), "chain 'long' is none of full, short"),
        (a_message("translate").replace("zh_hant", "en"), "writes Chinese only: it translates between 简 and 繁"),
        (a_message("judge").replace("item>", "thing>"), "hands over no <item>"),
        (a_message("judge").replace("<think>", "<thought>"), "the item handed over cannot be read: not_xml"),
        (a_message("verify").replace("D. ", "E. "), "no lines '问题：…' and 'A. …' to 'D. …'"),
        (a_message("verify", item=replace(GOOD, question="谁最伟大？")), "knows no such question: 谁最伟大？"),
        (a_message("verify", item=replace(GOOD, options=("甲", "乙", "丙", "丁"))), "finds 0 right options"),
        (a_message("write", difficulty="basic").replace("basic", "expert"), "no form for type 'factual' at difficulty"),
        (a_message("judge").replace("economy", "astrology"), "no fact sheet for topic 'astrology'"),
    ],
)
def test_what_it_cannot_answer_is_refused_with_what_is_wrong(message: str, refusal: str) -> None:
    found = complete(a_call(message))

    assert isinstance(found, Refusal)
    assert found.status == 400
    assert refusal in found.message


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"{", "not a chat completion request"),
        (a_call("", messages=[]), "no line '主题"),
        (a_call("", stream=True), "stream"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, refusal: str) -> None:
    found = complete(body)

    assert isinstance(found, Refusal)
    assert refusal in found.message


def test_an_answer_that_is_wrong_is_judged_so_and_improved() -> None:
    wrong = replace(GOOD, answer=other(GOOD.answer))

    judged = parse_as(JUDGEMENT, content(complete(a_call(a_message("judge", item=wrong)))))
    improved = parse(content(complete(a_call(a_message("improve", item=wrong)))))

    assert not isinstance(judged, Malformed)
    assert judged.rigor == 1
    assert isinstance(improved, Item)
    assert improved.answer == GOOD.answer
