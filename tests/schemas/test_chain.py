import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from schemas import chain
from schemas.chain import ANSWER, ITEM, JUDGEMENT, Malformed, parse, parse_as, render, write
from schemas.record import Answer, Judgement
from tests.curate.builders import an_item, items_of

PLAIN = write(an_item())
ANSWERED = '<answer>\n<reasoning><step n="1">一</step><step n="2">二</step></reasoning>\n<output>B</output>\n</answer>'
JUDGED = (
    "<judgement><rigor>4</rigor><difficulty>3</difficulty><innovation>3</innovation><clarity>5</clarity>"
    "<educational_value>4</educational_value><feedback>题干可以更短。</feedback></judgement>"
)
ANSWER_READ = Answer(steps=("一", "二"), answer="B")
JUDGEMENT_READ = Judgement(
    rigor=4, difficulty=3, innovation=3, clarity=5, educational_value=4, feedback="题干可以更短。"
)
FORMS = {"item": (ITEM, PLAIN), "answer": (ANSWER, ANSWERED), "judgement": (JUDGEMENT, JUDGED)}
PIECES = (
    *re.findall(r"<[^>]+>", write(an_item(adjustment="改")) + ANSWERED + JUDGED),
    "3",
    "6",
    "问",
    "B",
    " ",
    "\n",
    "\r",
    "\t",
    "　",
    "<",
    "&",
    "&amp;",
    "&#66;",
    "&lt;",
    "&apos;",
    "&nbsp;",
    "]]>",
    "<![CDATA[x]]>",
    "<!-- c -->",
    "<?p?>",
    "\0",
    "\x1f",
    "\x85",
    "\u2028",
    "\ufeff",
    "\ufffe",
    "𠀀",
    "<b>",
    '<step n="0">',
    "<step n='1'>",
    '<step n="01">',
    "<think/>",
    "<think>想</think>",
    "<reflection>思</reflection>",
)
characters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
text = st.text(characters | st.sampled_from("<>&'\"\r\n\t"), min_size=1).map(str.strip).filter(bool)
items = items_of(text)


@given(items)
def test_what_is_written_is_read_back(item):
    assert parse(write(item)) == item


@st.composite
def damaged(draw):
    """A form, and a reply of it with pieces put in, taken out or put in the place of others."""
    form, reply = draw(st.sampled_from([*FORMS.values()]) | st.tuples(st.just(ITEM), items.map(write)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(reply)))
        gone = draw(st.sampled_from((0, 0, 1, 6)))
        reply = reply[:at] + draw(st.sampled_from(PIECES)) + reply[at + gone :]
    return form, reply


@given(damaged())
def test_the_pattern_reads_what_the_xml_parser_reads_and_nothing_else(made):
    form, reply = made[0], made[1].strip()

    fast = form.plain(reply)

    if fast:
        assert fast == chain._any(form, reply.encode())


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_no_soup_of_markup_raises_or_parses_differently(soup):
    whole = f"<item><question>{soup}</question>" + PLAIN.partition("</question>")[2]
    judged = f"<judgement>{soup}" + JUDGED.removeprefix("<judgement>")

    for form, reply in ((ITEM, soup), (ITEM, whole), (ANSWER, soup), (JUDGEMENT, judged)):
        found = parse_as(form, reply)
        fast = form.plain(reply.strip())
        if fast:
            assert found == fast == chain._any(form, reply.strip().encode())


@pytest.mark.parametrize(
    ("form", "reply", "read"), [(ANSWER, ANSWERED, ANSWER_READ), (JUDGEMENT, JUDGED, JUDGEMENT_READ)]
)
def test_an_answer_and_a_judgement_are_read_with_and_without_the_pattern(form, reply, read):
    assert parse_as(form, reply) == read
    assert parse_as(form, reply.replace("><", "><!-- a note --><", 1)) == read


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_a_reply_of_another_form_is_malformed_and_named(form, other):
    found = parse_as(FORMS[form][0], FORMS[other][1])

    assert isinstance(found, Malformed) is (form != other)
    if form != other:
        assert found == Malformed("wrong_shape", f"the document is <{other}>, not <{form}>")


@pytest.mark.parametrize(
    ("form", "reply"),
    [
        (ANSWER, ANSWERED.replace(">B<", ">E<")),
        (ANSWER, ANSWERED.replace("二", " ")),
        (ANSWER, ANSWERED.replace("二", "\u3000")),
        (ANSWER, re.sub("<step.*</step>", "", ANSWERED)),
        (ANSWER, ANSWERED.replace("<reasoning>", "<think>想</think><reasoning>")),
        (JUDGEMENT, JUDGED.replace(">5<", ">6<")),
        (JUDGEMENT, JUDGED.replace(">5<", ">0<")),
        (JUDGEMENT, JUDGED.replace(">5<", ">4.5<")),
        (JUDGEMENT, JUDGED.replace(">5<", "><")),
        (JUDGEMENT, JUDGED.replace("<clarity>5</clarity>", "")),
        (JUDGEMENT, JUDGED.replace("题干可以更短。", "\u3000")),
        (JUDGEMENT, JUDGED.replace("<rigor>4</rigor>", "") + "<rigor>4</rigor>"),
    ],
)
def test_an_answer_or_judgement_that_is_not_exactly_one_is_malformed(form, reply):
    assert isinstance(parse_as(form, reply), Malformed)


def test_the_mean_of_a_judgement_is_that_of_its_five_marks():
    assert JUDGEMENT_READ.mean() == pytest.approx(3.8)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        (" \n\u3000", "empty"),
        ("答案是B", "not_xml"),
        (PLAIN[:-10], "not_xml"),
        (PLAIN + PLAIN, "not_xml"),
        (PLAIN.replace("先", "\0"), "not_xml"),
        (PLAIN.replace("先", "\ud800"), "not_xml"),
        (PLAIN.replace("先", "AT&T"), "not_xml"),
        (PLAIN.replace("先", "a<b"), "not_xml"),
        (PLAIN.replace("先", "先" * 22_000), "too_large"),
        ('<!DOCTYPE item [<!ENTITY a "b">]>' + PLAIN, "doctype"),
        ('<!DOCTYPE item SYSTEM "http://localhost/x.dtd">' + PLAIN, "doctype"),
        (PLAIN.replace("<item>", '<item xmlns="x">'), "wrong_shape"),
        (
            PLAIN.replace(
                "<item>",
                '<item xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="x.xsd">',
            ),
            "wrong_shape",
        ),
        (PLAIN.replace("<output>B<", "<output>E<"), "wrong_shape"),
        (PLAIN.replace("<output>B<", "<output>b<"), "wrong_shape"),
        (PLAIN.replace("<A>2012年</A>", ""), "wrong_shape"),
        (PLAIN.replace("2012年", ""), "wrong_shape"),
        (PLAIN.replace("2012年", "\u3000"), "wrong_shape"),
        (PLAIN.replace("<think>", "<b>x</b><think>"), "wrong_shape"),
        (PLAIN.replace("</item>", "again</item>"), "wrong_shape"),
        (PLAIN.replace("<output>", "<adjustment> </adjustment><output>"), "wrong_shape"),
        (PLAIN.replace("<output>", "<adjustment>\u3000</adjustment><output>"), "wrong_shape"),
        (PLAIN.replace(an_item().think, ""), "wrong_shape"),
        (PLAIN.replace(an_item().think, " "), "wrong_shape"),
        (PLAIN.replace(an_item().think, "\u3000"), "wrong_shape"),
        (PLAIN.replace(an_item().reflection, "<!-- 略 -->"), "wrong_shape"),
        (PLAIN.replace("先", "先<!-- 略 -->"), "wrong_shape"),
        (PLAIN.replace("先", "先<?php echo 1 ?>"), "wrong_shape"),
        (PLAIN.replace('n="1"', 'n="0"'), "wrong_shape"),
        (PLAIN.replace('n="1"', 'n="一"'), "wrong_shape"),
        (PLAIN.replace('n="2"', 'n="3"'), "steps_misnumbered"),
        (PLAIN.replace('n="2"', 'n="1"'), "steps_misnumbered"),
        (PLAIN.replace('n="1"', 'n="' + "1" * 9 + '"'), "steps_misnumbered"),
        (PLAIN.replace('n="1"', "").replace("<step >", "<step>").replace('n="2"', 'n="1"'), "steps_misnumbered"),
    ],
)
def test_a_reply_that_is_not_exactly_one_item_is_malformed(reply, reason):
    found = parse(reply)

    assert isinstance(found, Malformed)
    assert found.reason == reason
    assert found.detail


@pytest.mark.parametrize(
    "reply",
    [
        PLAIN,
        "\n\u3000" + PLAIN + "\n",
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        '<?xml version="1.0" encoding="UTF-8"?>\n' + PLAIN,
        '<?xml version="1.0" encoding="GB2312"?>\n' + PLAIN,
        PLAIN.replace("<output>B<", "<output> B\n<"),
        PLAIN.replace("2012", "&#50;012"),
        PLAIN.replace("2012年", "<![CDATA[2012年]]>"),
        PLAIN.replace('<step n="1">', "<step>"),
        PLAIN.replace('n="1"', "n=' 01 '"),
        PLAIN.replace("<think>", "<!-- a note --><think>"),
    ],
)
def test_what_xml_allows_changes_no_text(reply):
    assert parse(reply) == an_item()


@pytest.mark.parametrize(
    "lacking",
    [{"think": ""}, {"reflection": ""}, {"think": "", "reflection": ""}, {"think": "", "adjustment": "改"}],
)
def test_a_chain_without_a_part_is_written_shown_and_read_without_it(lacking):
    item = an_item(**lacking)
    absent = [part for part, said in lacking.items() if not said]

    written = write(item)

    assert parse(written) == chain._any(ITEM, written.encode()) == item
    assert not any(f"<{part}" in text for part in absent for text in (written, render(item)))


def test_a_reply_that_quotes_much_is_refused_in_few_words():
    found = parse(PLAIN.replace("<output>B<", f"<output>{'B' * 50_000}<"))

    assert len(found.detail) <= chain.MAX_DETAIL


@pytest.mark.parametrize("more", [0, 1])
def test_a_chain_longer_than_the_pattern_is_read_by_the_xml_parser(more):
    item = an_item(steps=tuple(f"第{n}步" for n in range(chain.PLAIN_STEPS + more)))

    assert parse(write(item)) == item
    assert (ITEM.plain(write(item)) is None) == bool(more)


def test_what_is_wrong_with_a_reply_is_told_without_regard_to_the_replies_before():
    broken = [PLAIN[:-10], PLAIN.replace("</think>", ""), PLAIN.replace("先", "AT&T"), f"```\n{PLAIN}"]
    alone = []
    for reply in broken:
        with pytest.raises(etree.XMLSyntaxError) as error:
            etree.fromstring(reply.encode(), etree.XMLParser(encoding="utf-8"))
        alone.append(str(error.value))

    assert [parse(reply).detail for reply in broken] == alone
    assert parse(PLAIN.replace("<think>", "<!-- a note --><think>")) == an_item()


def test_a_large_text_is_read_in_no_time():
    item = an_item(think="思 & " * 6_000)

    assert parse(write(item)) == an_item(think=item.think.strip())


@pytest.mark.parametrize("where", ["think", "steps", "reflection", "adjustment"])
@pytest.mark.parametrize(("mark", "escaped"), [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;")])
def test_markup_in_one_text_of_a_chain_is_escaped(where, mark, escaped):
    text = f"甲{mark}"

    shown = render(an_item(**{where: ("乙", text) if where == "steps" else text}))

    assert f">甲{escaped}</" in shown


def test_a_chain_shows_the_chosen_parts_in_schema_order():
    item = an_item(steps=("a < b",), adjustment="改")

    assert render(item, ("output", "reasoning")) == ("<reasoning><step>a &lt; b</step></reasoning>\n<output>B</output>")
    assert render(item).startswith("<think>")
    assert "<adjustment>改</adjustment>\n<output>" in render(item)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("<output>B</output>", "B"),
        ("<output> Ｃ </output>", "C"),
        ("<output>A</output><output>D</output>", "D"),
        ("<output>E</output>", None),
        ("B", None),
        ("<output>B", None),
        ("", None),
    ],
)
def test_the_last_output_of_a_broken_chain_counts(text, letter):
    assert chain.output(text) == letter
