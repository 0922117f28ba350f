import pytest

from datagen import prompts
from datagen.client import Reply
from datagen.grid import Body, Request
from datagen.kinds import KINDS, chinese, original
from datagen.prompts import Cell
from schemas.chain import Malformed, write
from schemas.params import Topic, Wording
from schemas.record import Item, Message
from tests.curate.builders import an_item

CELL = Cell(
    ("environment", Topic("环境保护", 1, 0)), ("basic", Wording("基础", "一步")), ("factual", Wording("事实性", "事实"))
)
ITEM = an_item()
ENGLISH = an_item(
    question="In which year was the Paris Agreement adopted?",
    options=("2012", "2015", "2016", "2018"),
    think="First recall the background of the Paris Agreement (《巴黎协定》).",
    steps=("The Paris Agreement was adopted in 2015.", "So option B is correct."),
    reflection="It rests on public sources, and the wording is neutral.",
)
ANSWERED = '<answer><reasoning><step n="1">一</step></reasoning><output>B</output></answer>'
JUDGED = (
    "<judgement><rigor>4</rigor><difficulty>3</difficulty><innovation>3</innovation><clarity>5</clarity>"
    "<educational_value>4</educational_value><feedback>好</feedback></judgement>"
)


def asking(kind: str, detail: str = "", item: Item = ITEM) -> Request:
    """A request of a kind; detail is the variation, the flaw or the language."""
    messages = {
        "write": lambda: (Message(role="user", content="写一道题"),),
        "verify": lambda: prompts.verify(CELL, item),
        "judge": lambda: prompts.judge(CELL, item),
        "improve": lambda: prompts.improve(CELL, item, "太短", full=False),
        "vary": lambda: prompts.vary(CELL, item, detail, full=False),
        "contrast": lambda: prompts.contrast(CELL, item, detail, full=False),
        "translate": lambda: prompts.translate(CELL, item, detail),
    }[kind]()
    return Request("environment", "basic", "factual", 0, 0, "x", Body("m", messages, 1.0, 9, 0), kind, "1")


def verdict(request: Request, content: str | Item, finish: str = "stop"):
    """The reason a reply is bad, or the repairs it needs."""
    text = content if isinstance(content, str) else write(content)
    found = KINDS[request.kind].judge(request, Reply(text, finish, "m", 2, 1))
    return found.reason if isinstance(found, Malformed) else found


GOOD = [
    ("write", "", write(ITEM)),
    ("verify", "", ANSWERED),
    ("judge", "", JUDGED),
    ("improve", "", write(an_item(question="《巴黎协定》通过于哪一年？"))),
    ("vary", "context_change", write(an_item(question="一位记者想知道：《巴黎协定》是在哪一年通过的？"))),
    ("contrast", "wrong", write(an_item(steps=("它于2012年通过。",), answer="A"))),
    ("contrast", "biased", write(an_item(steps=("显然是2015年。",)))),
    ("translate", "en", write(ENGLISH)),
    ("translate", "zh_hant", write(an_item(question="《巴黎協定》是在哪一年通過的？"))),
]


@pytest.mark.parametrize(("kind", "detail", "content"), GOOD)
def test_a_reply_that_does_what_the_kind_is_for_is_good(kind, detail, content):
    assert verdict(asking(kind, detail), content) == ()


@pytest.mark.parametrize(("kind", "detail", "content"), GOOD)
def test_a_reply_that_can_be_mended_is_good_and_the_repair_named(kind, detail, content):
    assert verdict(asking(kind, detail), f"```xml\n{content}\n```") == ("code_fence",)


@pytest.mark.parametrize(("kind", "detail", "content"), GOOD)
def test_a_reply_cut_off_at_max_tokens_says_so(kind, detail, content):
    assert verdict(asking(kind, detail), content[:25], "length") == "cut_short"


@pytest.mark.parametrize(("kind", "detail", "content"), GOOD)
@pytest.mark.parametrize(
    "thoughts", ["<think>\n先想。\n</think>\n\n", "<think>\n\n</think>\n\n", "先想。\n</think>\n\n"]
)
def test_a_reasoning_models_thoughts_are_taken_off_whatever_is_asked_for(kind, detail, content, thoughts):
    assert verdict(asking(kind, detail), thoughts + content) == ("thoughts",)


@pytest.mark.parametrize(("finish", "reason"), [("stop", "only_thoughts"), ("length", "cut_short")])
def test_a_reply_that_never_ends_its_thoughts_is_told_to_think_less(finish, reason):
    found = KINDS["write"].judge(asking("write"), Reply("<think>\n还没想好", finish, "m", 2, 1))

    assert (found.reason, "think less" in found.detail) == (reason, True)


@pytest.mark.parametrize(("kind", "detail", "content"), GOOD)
def test_the_root_that_a_kind_names_is_that_of_its_reply(kind, detail, content):
    assert content.startswith(f"<{KINDS[kind].root}>")


@pytest.mark.parametrize(
    ("kind", "detail", "content", "reason"),
    [
        ("write", "", an_item(think=""), "part_missing"),
        ("write", "", an_item(reflection=""), "part_missing"),
        ("write", "", write(ITEM).replace(ITEM.think, " "), "part_missing"),
        ("verify", "", write(ITEM), "wrong_shape"),
        ("verify", "", ANSWERED.replace(">B<", ">E<"), "wrong_shape"),
        ("judge", "", JUDGED.replace(">5<", ">6<"), "wrong_shape"),
        ("judge", "", JUDGED.replace("好", " "), "wrong_shape"),
        ("improve", "", write(ITEM), "not_improved"),
        ("improve", "", an_item(think="想。", answer="C"), "answer_changed"),
        ("improve", "", an_item(options=("2015年", "2012年", "2016年", "2018年")), "answer_changed"),
        ("improve", "", an_item(options=("2012年", "2015年", "2015 年。", "2018年")), "options_not_distinct"),
        ("improve", "", write(ITEM).replace("《巴黎协定》是在哪一年通过的？", ""), "wrong_shape"),
        ("improve", "", an_item(question="哪一年？", think=""), "part_missing"),
        ("translate", "zh_hant", an_item(reflection=""), "part_missing"),
        ("vary", "context_change", write(ITEM), "not_varied"),
        ("vary", "context_change", an_item(question="《巴黎协定》是在哪一年通过的?"), "not_varied"),
        ("vary", "practical_application", an_item(options=("1年", "2年", "3年", "4年")), "not_varied"),
        ("vary", "parameter_change", an_item(options=("1年", "2015年", "3年", "4年")), "not_varied"),
        ("contrast", "wrong", an_item(think="2015年。"), "answer_not_changed"),
        ("contrast", "wrong", an_item(answer="A"), "chain_not_changed"),
        ("contrast", "biased", an_item(think="2012年。", answer="A"), "answer_changed"),
        ("contrast", "biased", write(ITEM), "chain_not_changed"),
        ("contrast", "wrong", an_item(question="哪一年？", think="x", answer="A"), "question_changed"),
        ("contrast", "biased", an_item(options=("2015年", "2012年", "2016年", "2018年")), "question_changed"),
        ("translate", "en", write(ITEM), "not_translated"),
        ("translate", "zh_hans", write(ENGLISH), "not_translated"),
        ("translate", "en", write(ENGLISH).replace(">B<", ">C<"), "answer_changed"),
    ],
)
def test_a_reply_that_does_not_is_bad_and_the_reason_says_why(kind, detail, content, reason):
    assert verdict(asking(kind, detail), content) == reason


def test_the_part_that_a_reply_lacks_is_named():
    content = write(an_item(think="", reflection=""))

    found = KINDS["write"].judge(asking("write"), Reply(content, "stop", "m", 2, 1))

    assert found.detail.startswith("without <think> and <reflection>")


@pytest.mark.parametrize("kind", ["improve", "vary", "translate"])
def test_an_item_may_lack_what_the_users_own_question_lacks(kind):
    detail = {"vary": "context_change", "translate": "zh_hant"}.get(kind, "")
    item = an_item(think="", reflection="")

    assert verdict(asking(kind, detail, item), an_item(question="它通过于哪一年？", think="", reflection="")) == ()


def test_other_parameters_may_stand_in_the_options_alone():
    item = an_item(question="哪一项最早？", options=("甲", "乙", "丙", "丁"))

    changed = an_item(question="哪一项最早？", options=("戊", "己", "庚", "辛"))

    assert verdict(asking("vary", "parameter_change", item), changed) == ()


def test_spaces_width_and_quotation_marks_do_not_make_another_question():
    item = an_item(question="“双碳”目标是在哪一年提出的？", options=("2012年", "2020年", "2016年", "2018年"))
    options = ("2012 年", "２０２０年", "2016年。", "2018年")

    changed = an_item(question='"双碳"目标是在哪一年提出的?', options=options, think="显然。")

    assert verdict(asking("contrast", "biased", item), changed) == ()


@pytest.mark.parametrize("kind", ["judge", "improve", "vary", "contrast", "translate"])
def test_the_original_is_read_back_from_the_request_and_its_reask(kind):
    item = an_item(question="若<B>与&成立</item>？", think="换行\n与空格 。")
    detail = {"vary": "context_change", "contrast": "wrong", "translate": "en"}.get(kind, "")
    request = asking(kind, detail, item)
    messages = prompts.reask(request.body.messages, write(an_item()), Malformed("x", "y"), "item")

    again = Request("environment", "basic", "factual", 0, 0, "x", Body("m", messages, 1.0, 9, 0), kind, "1")

    assert original(request) == original(again) == item


@pytest.mark.parametrize(("item", "least", "most"), [(ITEM, 0.95, 1.0), (ENGLISH, 0.0, 0.1)])
def test_chinese_is_told_by_its_characters(item, least, most):
    assert least <= chinese(item) <= most
