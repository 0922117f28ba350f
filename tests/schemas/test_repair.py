import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.chain import ANSWER, ITEM, JUDGEMENT, Malformed, write
from schemas.record import Answer, Judgement
from schemas.repair import REPAIRS, mend, mend_as, split_thoughts
from tests.curate.builders import an_item

PLAIN = write(an_item())
FENCED = an_item(question="下面的代码输出什么？\n```python\nprint(1 < 2)\n```\n请选择。")


@pytest.mark.parametrize(
    ("reply", "item", "repairs"),
    [
        (PLAIN, an_item(), ()),
        (f"```xml\n{PLAIN}\n```", an_item(), ("code_fence",)),
        (f"好的：\n```\n{PLAIN}\n```\n希望有帮助。", an_item(), ("code_fence",)),
        (f"```xml\n{PLAIN}", an_item(), ("code_fence",)),
        (f"```xml\n{write(FENCED)}\n```", FENCED, ("code_fence",)),
        (write(FENCED).replace("&lt;", "<"), FENCED, ("bare_markup",)),
        (f"好的，题目如下。\n{PLAIN}\n以上。", an_item(), ("surrounding_text",)),
        (PLAIN.replace("2012年", "AT&T"), an_item(options=("AT&T", "2015年", "2016年", "2018年")), ("bare_markup",)),
        (
            PLAIN.replace("先", "a<b且b>c，&nbsp; <x>"),
            an_item(think="a<b且b>c，&nbsp; <x>回忆《巴黎协定》的背景。"),
            ("bare_markup",),
        ),
        (PLAIN.replace("先", "<b>先</b>"), an_item(think="<b>先</b>回忆《巴黎协定》的背景。"), ("bare_markup",)),
        (PLAIN.replace("先", "x]]>y"), an_item(think="x]]>y回忆《巴黎协定》的背景。"), ("bare_markup",)),
        (
            PLAIN.replace("先", "<![CDATA[a&b<think>]]>&"),
            an_item(think="a&b<think>&回忆《巴黎协定》的背景。"),
            ("cdata", "bare_markup"),
        ),
        (
            PLAIN.replace('n="1"', "n = '1'").replace("先", "&"),
            an_item(think="&回忆《巴黎协定》的背景。"),
            ("bare_markup",),
        ),
        (PLAIN.replace("<output>", "<adjustment></adjustment><output>"), an_item(), ("empty_part",)),
        (PLAIN.replace("<output>", "<adjustment/><output>"), an_item(), ("empty_part",)),
        (PLAIN.replace(an_item().think, " \n"), an_item(think=""), ("empty_part",)),
        (
            PLAIN.replace(f"<reflection>{an_item().reflection}</reflection>", "<reflection/>\n<adjustment />"),
            an_item(reflection=""),
            ("empty_part",),
        ),
        (PLAIN.replace("</think>", ""), an_item(), ("missing_end_tags",)),
        (PLAIN.replace("</step>", "").replace("</A>", ""), an_item(), ("missing_end_tags",)),
        (PLAIN.replace("</options>", ""), an_item(), ("missing_end_tags",)),
        (write(an_item(think="")).replace("</options>", ""), an_item(think=""), ("missing_end_tags",)),
        (
            write(an_item(reflection="", adjustment="改")).replace("</reasoning>", ""),
            an_item(reflection="", adjustment="改"),
            ("missing_end_tags",),
        ),
        (PLAIN.replace("</reasoning>", ""), an_item(), ("missing_end_tags",)),
        (PLAIN.replace("</item>", ""), an_item(), ("missing_end_tags",)),
        (PLAIN.replace("</output>\n</item>", ""), an_item(), ("missing_end_tags",)),
        (PLAIN.replace(">B<", ">Ｂ<"), an_item(), ("answer_letter",)),
        (PLAIN.replace(">B<", ">（B）<"), an_item(), ("answer_letter",)),
        (PLAIN.replace(">B<", ">选项B<"), an_item(), ("answer_letter",)),
        (PLAIN.replace(">B<", ">選項B<"), an_item(), ("answer_letter",)),
        (PLAIN.replace(">B<", ">**B**<"), an_item(), ("answer_letter",)),
        (PLAIN.replace(">B<", ">“B”<"), an_item(), ("answer_letter",)),
        (PLAIN.replace('n="1"', 'n="0"').replace('n="2"', 'n="1"'), an_item(), ("step_numbers",)),
        (PLAIN.replace('n="1"', "n=“１”").replace('n="2"', "n=2"), an_item(), ("step_numbers",)),
        (PLAIN.replace('n="', 'id="'), an_item(), ("step_numbers",)),
        (PLAIN.replace('n="2"', 'n="2" 类="结论"'), an_item(), ("attributes",)),
        (PLAIN.replace("</output>", "</output＞"), an_item(), ("tag_spelling",)),
        (PLAIN.replace("<think>", "<think ＞"), an_item(), ("tag_spelling",)),
        (PLAIN.replace("Item", "item").replace("item>", "Item>"), an_item(), ("tag_spelling",)),
        (f"```xml\n{PLAIN.replace('item>', 'ITEM >')}\n```", an_item(), ("code_fence", "tag_spelling")),
        (f"<think>先想。</think>\n```xml\n{PLAIN}\n```", an_item(), ("thoughts", "code_fence")),
        (PLAIN.replace(">B<", ">答案：b。<"), an_item(), ("answer_letter",)),
        (PLAIN.replace(">B<", ">The answer is B<"), an_item(), ("answer_letter",)),
        (PLAIN.replace(">B<", ">B. 2015年<"), an_item(), ("answer_letter",)),
        (
            f"如下\n{PLAIN.replace('先', '&').replace('</think>', '').replace('>B<', '>Ｂ<')}",
            an_item(think="&回忆《巴黎协定》的背景。"),
            ("surrounding_text", "bare_markup", "missing_end_tags", "answer_letter"),
        ),
    ],
)
def test_what_can_be_mended_is_mended_to_the_letter_and_named(reply, item, repairs):
    assert mend(reply) == (item, repairs)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "答案是B",
        PLAIN + PLAIN,
        PLAIN[: PLAIN.index("<reflection>")],  # cut off before the answer
        PLAIN.replace(">B<", "><"),
        PLAIN.replace(">B<", ">B或C<"),
        PLAIN.replace(">B<", ">不是B<"),
        PLAIN.replace(">B<", ">B. 2016年<"),  # the text of another option
        PLAIN.replace(">B<", ">BC<"),
        PLAIN.replace(">B<", ">B、C<"),
        write(an_item(options=("A", "C", "D", "E"))).replace(">B<", ">B、C<"),  # and C is the text of option B
        PLAIN.replace(">B<", ">2015年<"),
        PLAIN.replace("<A>2012年</A>", "<A>2012年</B>"),
        PLAIN.replace("<think>", "先想</think>"),
        PLAIN.replace("<A>2012年</A>", ""),
        PLAIN.replace("</question>", "</qestion>"),
        PLAIN.replace("</think>", "").replace("先", "<b>先</b>"),  # an end tag that may be the missing one, misspelt
        PLAIN.replace('n="1"', 'n="3"'),  # steps in another order than they are numbered in
        PLAIN.replace('<step n="1">', '<step n="1">要写 <step> 标签。'),
        PLAIN.replace("先", "<think></think>先"),
        PLAIN.replace("先", "若<B>成立则"),
        '<!DOCTYPE item [<!ENTITY a "b">]>' + PLAIN.replace("先", "&a;"),
        PLAIN.replace("先", "\0"),
    ],
)
def test_what_would_be_a_guess_stays_broken(reply):
    assert isinstance(mend(reply), Malformed)


DRAFT = PLAIN.replace("2015年", "2014年")


@pytest.mark.parametrize(
    ("thoughts", "rest"),
    [
        ("", PLAIN),  # the <think> of an item is none of these
        ("<think>\n先解题，再写题。\n</think>", f"\n\n{PLAIN}"),
        ("<think>\n\n</think>", f"\n\n{PLAIN}"),  # thinking switched off
        ("\n<think></think>", f"好的：\n```xml\n{PLAIN}\n```"),
        ("先解题，若 a<b。\n</think>", f"\n\n{PLAIN}"),  # the prompt ended with <think>
        (f"<think>草稿：\n{DRAFT}\n再改。</think>", f"\n{PLAIN}"),
        ("<think>要写 <think> 标签和 <item>。</think>", PLAIN),
        ("<think>想好了。</think>", PLAIN.replace("item>", "ITEM>")),
        ("<think>想好了。</think>", "抱歉，我写不出。"),
        ("<think>想好了。</think>", ""),
        ("<think>还没想好", ""),
        (f"<think>草稿：\n{DRAFT}\n再改。", ""),  # the </think> in it is the draft's own
        ("", "我先想一想。"),
        ("", f"{DRAFT}\n{PLAIN}"),
    ],
)
def test_thoughts_are_told_from_what_follows_them(thoughts, rest):
    assert split_thoughts(thoughts + rest) == (thoughts, rest)


@pytest.mark.parametrize(
    "thoughts", ["<think>\n先想。\n</think>\n\n", "<think>\n\n</think>\n\n", "先想。\n</think>\n\n"]
)
def test_thoughts_are_taken_off_and_the_items_own_stay(thoughts):
    assert mend(thoughts + PLAIN) == (an_item(), ("thoughts",))


@pytest.mark.parametrize(
    "reply",
    ["<think>还没想好", "<think>想好了。</think>\n", f"<think>草稿：\n{DRAFT}", f"<think>草稿：\n{DRAFT}\n</think>"],
)
def test_a_reply_that_is_all_thoughts_says_so(reply):
    assert mend(reply).reason == "only_thoughts"


def test_what_is_wrong_behind_thoughts_is_told_without_them():
    broken = PLAIN.replace("<A>2012年</A>", "")

    assert mend(f"<think>想好了。</think>\n{broken}") == mend(broken)


ANSWERED = '<answer>\n<reasoning><step n="1">一</step></reasoning>\n<output>B</output>\n</answer>'
ANSWER_READ = Answer(steps=("一",), answer="B")
JUDGED = (
    "<judgement>\n<rigor>4</rigor>\n<difficulty>3</difficulty>\n<innovation>3</innovation>\n<clarity>5</clarity>\n"
    "<educational_value>4</educational_value>\n<feedback>题干可以更短。</feedback>\n</judgement>"
)


def the_judgement(feedback: str = "题干可以更短。") -> Judgement:
    return Judgement(rigor=4, difficulty=3, innovation=3, clarity=5, educational_value=4, feedback=feedback)


@pytest.mark.parametrize(
    ("form", "reply", "read", "repairs"),
    [
        (ANSWER, ANSWERED, ANSWER_READ, ()),
        (ANSWER, f"```xml\n{ANSWERED}\n```", ANSWER_READ, ("code_fence",)),
        (ANSWER, f"我的作答：\n{ANSWERED}\n完毕。", ANSWER_READ, ("surrounding_text",)),
        (ANSWER, ANSWERED.replace("一", "a<b&c"), Answer(steps=("a<b&c",), answer="B"), ("bare_markup",)),
        (ANSWER, ANSWERED.replace("一", "见<item>"), Answer(steps=("见<item>",), answer="B"), ("bare_markup",)),
        (ANSWER, ANSWERED.replace("</step></reasoning>", ""), ANSWER_READ, ("missing_end_tags",)),
        (ANSWER, ANSWERED.replace("</output>\n</answer>", ""), ANSWER_READ, ("missing_end_tags",)),
        (ANSWER, ANSWERED.replace(">B<", ">选项Ｂ<"), ANSWER_READ, ("answer_letter",)),
        (JUDGEMENT, JUDGED, the_judgement(), ()),
        (JUDGEMENT, f"```\n{JUDGED}\n```", the_judgement(), ("code_fence",)),
        (JUDGEMENT, f"评审如下：\n{JUDGED}", the_judgement(), ("surrounding_text",)),
        (
            JUDGEMENT,
            JUDGED.replace("题干", "“A&B”里<step>"),
            the_judgement("“A&B”里<step>可以更短。"),
            ("bare_markup",),
        ),
        (JUDGEMENT, JUDGED.replace("</feedback>", ""), the_judgement(), ("missing_end_tags",)),
        (JUDGEMENT, JUDGED.replace("</clarity>", ""), the_judgement(), ("missing_end_tags",)),
        (JUDGEMENT, JUDGED.replace(">4<", ">４<"), the_judgement(), ("mark_digit",)),
        (JUDGEMENT, JUDGED.replace(">4<", ">4分<"), the_judgement(), ("mark_digit",)),
        (JUDGEMENT, JUDGED.replace(">4<", ">4/5<"), the_judgement(), ("mark_digit",)),
        (JUDGEMENT, JUDGED.replace(">4<", "> 4.0 / 5 分 <"), the_judgement(), ("mark_digit",)),
    ],
)
def test_an_answer_and_a_judgement_are_mended_in_the_same_way(form, reply, read, repairs):
    assert mend_as(form, reply) == (read, repairs)


@pytest.mark.parametrize(
    ("form", "reply"),
    [
        (ANSWER, ANSWERED.replace(">B<", ">B. 2015年<")),  # whose text that is the reply does not say
        (ANSWER, ANSWERED.replace(">B<", ">B或C<")),
        (ANSWER, PLAIN),
        (JUDGEMENT, JUDGED.replace(">4<", ">4.5<")),
        (JUDGEMENT, JUDGED.replace(">4<", ">8/10<")),
        (JUDGEMENT, JUDGED.replace(">4<", ">4-5<")),
        (JUDGEMENT, JUDGED.replace(">4<", ">0<")),
        (JUDGEMENT, JUDGED.replace(">4<", ">良好<")),
        (JUDGEMENT, JUDGED.partition("<feedback>")[0]),
        (JUDGEMENT, JUDGED.partition("可以")[0]),  # cut off in the middle of a text
        (JUDGEMENT, JUDGED.replace("题干", "少了</judgement>")),
        (JUDGEMENT, f"<think>草稿：{JUDGED}"),
    ],
)
def test_an_answer_or_judgement_that_would_be_a_guess_stays_broken(form, reply):
    assert isinstance(mend_as(form, reply), Malformed)


raw = (
    st.text(st.sampled_from("问A b1<>&;\"'/\n。]　"), min_size=1)
    .map(str.strip)
    .filter(bool)
    .filter(lambda text: not any(mark in text for mark in ("<A", "<B", "<C", "</", "<b", "&;")))
)


@given(raw, raw)
def test_text_with_bare_markup_comes_back_as_it_went_in(question, step):
    item = an_item(question=question, steps=(step,))
    reply = write(item).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    mended = mend(reply)

    assert not isinstance(mended, Malformed)
    assert mended[0] == item


@given(raw, st.sets(st.sampled_from(["</question>", "</A>", "</think>", "</reflection>", "</options>", "</item>"])))
def test_end_tags_are_put_back_where_they_were(question, missing):
    reply = write(an_item(question=question))
    for tag in missing:
        reply = reply.replace(tag, "")

    mended = mend(reply)

    assert not isinstance(mended, Malformed)
    assert mended[0] == an_item(question=question)


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS)
@pytest.mark.parametrize(("form", "reply"), [(ITEM, PLAIN), (ANSWER, ANSWERED), (JUDGEMENT, JUDGED)])
def test_a_repair_leaves_a_good_reply_alone(repair, form, reply):
    assert repair(reply, form) == reply


@given(st.text(st.sampled_from("<>/itemoupAB&`x\n 答案")))
def test_no_text_makes_mending_raise(reply):
    mend(reply)
    for form in (ITEM, ANSWER, JUDGEMENT):
        mend_as(form, f"<{form.root}>{reply}</{form.root}>")
