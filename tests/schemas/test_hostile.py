"""What a hostile or unlucky teacher may send: texts come back as they went in, or the reply is refused, at once."""

import html
import re
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.chain import ANSWER, ITEM, JUDGEMENT, MAX_BYTES, Malformed, parse, parse_as, write
from schemas.record import Item
from schemas.repair import AROUND, MAX_REPLY, REPAIRS, mend, mend_as
from tests.curate.builders import an_item, items_of

PLAIN = write(an_item())
DRAFT = write(an_item(question="草稿？", answer="C"))
WIDE = str.maketrans({code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)})
TAG = re.compile(r"</?[a-zA-Z]+[^<>]*>")
TEXT_TAG = re.compile(r"(<(question|[ABCD]|think|step|reflection|adjustment)(?: n=\"\d\")?>)([^<]*)(?=</)")


def wide(text: str) -> str:
    return text.translate(WIDE)


def at_one(pattern: str | re.Pattern[str], change):
    """A fault at one of the places where a pattern is found."""

    def fault(reply: str, choose) -> str:
        found = list(re.finditer(pattern, reply))
        if not found:
            return reply
        place = found[choose(len(found))]
        return reply[: place.start()] + change(place) + reply[place.end() :]

    return fault


def everywhere(change):
    return lambda reply, choose: change(reply)


def cut(reply: str, choose) -> str:
    return reply[: choose(len(reply) + 1)]


def bare(reply: str, choose) -> str:
    """References written as the characters they stand for, where that makes no markup."""
    text = re.sub("&(lt|gt|amp);", lambda found: {"lt": "<", "gt": ">", "amp": "&"}[found[1]], reply)
    return text if TAG.findall(text) == TAG.findall(reply) and not re.search("&[a-z#]|<!|<[?]|]]>", text) else reply


# Faults that leave the texts as they are, or nobody knows what they were: name to what it does to a reply.
FAULTS = {
    "fenced": everywhere(lambda reply: f"```xml\n{reply}\n```"),
    "fenced, never closed": everywhere(lambda reply: f"```\n{reply}"),
    "fenced with tildes": everywhere(lambda reply: f"~~~XML\n{reply}\n~~~"),
    "prose around": everywhere(lambda reply: f"好的，a < b & c：\n{reply}\n以上。"),
    "a byte order mark": everywhere(lambda reply: "\ufeff" + reply),
    "a declaration": everywhere(lambda reply: f'<?xml version="1.0" encoding="GB2312"?>\n{reply}'),
    "thoughts": everywhere(lambda reply: f"<think>先写草稿：\n{DRAFT}\n再改。</think>\n\n{reply}"),
    "thoughts that began in the prompt": everywhere(lambda reply: f"先想 a<b。\n</think>\n{reply}"),
    "thoughts without an end": everywhere(lambda reply: f"<think>先写草稿：\n{reply}"),
    "escaped as a whole": everywhere(lambda reply: html.escape(reply) if "</" in reply else reply),
    "escaped twice": everywhere(lambda reply: html.escape(html.escape(reply)) if "</" in reply else reply),
    "wide": everywhere(lambda reply: TAG.sub(lambda tag: wide(tag[0]), reply)),
    "wide delimiters": everywhere(lambda reply: TAG.sub(lambda t: t[0].replace("<", "＜").replace(">", "＞"), reply)),
    "one wide tag": at_one(TAG, lambda tag: wide(tag[0])),
    "one wide bracket": at_one(TAG, lambda tag: tag[0][:-1] + "＞"),
    "upper case": everywhere(lambda reply: TAG.sub(lambda tag: tag[0].upper(), reply)),
    "capitals": everywhere(lambda reply: TAG.sub(lambda tag: tag[0].title(), reply)),
    "one tag in upper case": at_one(TAG, lambda tag: tag[0].upper()),
    "a space in a tag": at_one(TAG, lambda tag: tag[0].replace("<", "< ")),
    "an attribute": at_one(r"<(\w+)>", lambda tag: f"<{tag[1]} lang=\"zh\" 难度='高'>"),
    "a namespace": at_one(r"<(\w+)>", lambda tag: f'<{tag[1]} xmlns="http://localhost/">'),
    "a missing end tag": at_one(r"</\w+>", lambda tag: ""),
    "a missing start tag": at_one(r"<\w+[^/<>]*>", lambda tag: ""),
    "crossed end tags": at_one(r"(</\w+>)(\s*)(</?\w+[^<>]*>)", lambda tags: tags[3] + tags[2] + tags[1]),
    "a wrong end tag": at_one(r"</\w+>", lambda tag: "</b>"),
    "a tag twice": at_one(TAG, lambda tag: tag[0] * 2),
    "an element twice": at_one(r"<(?!step)(\w+)[^<>]*>[^<]*</\1>", lambda element: element[0] * 2),
    "cut off": cut,
    "said twice": everywhere(lambda reply: reply + "\n" + reply),
    "nested": at_one(r"<(question|think|step n=\"1\")>", lambda tag: tag[0] + DRAFT),
    "bare & and <": bare,
    "CDATA": at_one(
        r"(<(\w+)>)((?:(?!&#13;)[^<])*)(?=</\2>)", lambda text: f"{text[1]}<![CDATA[{html.unescape(text[3])}]]>"
    ),
    "CDATA that never ends": at_one(TEXT_TAG, lambda text: text[1] + "<![CDATA[" + text[3]),
    "a comment between": at_one(r"</(\w)>\s*<(\w)>", lambda t: f"</{t[1]}><!-- <step> & --><{t[2]}>"),
    "a comment inside": at_one(TEXT_TAG, lambda text: text[0] + "<!-- 注 -->"),
    "an instruction inside": at_one(TEXT_TAG, lambda text: text[0] + "<?php echo 1 ?>"),
    "an instruction between": at_one(r"<options>", lambda tag: tag[0] + "<?p?>"),
    "references": at_one(TEXT_TAG, lambda t: t[1] + "".join(f"&#x{ord(c):x};" for c in html.unescape(t[3]))),
    "an unknown entity": at_one(TEXT_TAG, lambda text: text[1] + "&nbsp;" + text[3]),
    "a DTD": everywhere(lambda reply: f'<!DOCTYPE item [<!ENTITY a "b">]>\n{reply}'),
    "a NUL": at_one(r"(?s).", lambda character: "\0" + character[0]),
    "a control character": at_one(r"(?s).", lambda character: "\x1b" + character[0]),
    "half a surrogate pair": at_one(r"(?s).", lambda character: "\ud800" + character[0]),
    "steps counted from zero": everywhere(lambda reply: re.sub(r'n="(\d)"', lambda n: f'n="{int(n[1]) - 1}"', reply)),
    "steps counted backwards": everywhere(lambda reply: re.sub(r'n="(\d)"', lambda n: f'n="{9 - int(n[1])}"', reply)),
    "one step misnumbered": at_one(r'n="(\d)"', lambda number: 'n="7"'),
    "wide numbers": everywhere(lambda reply: re.sub(r'n="(\d)"', lambda n: f'n="{wide(n[1])}"', reply)),
    "an empty think more": everywhere(lambda reply: reply.replace("<reasoning>", "<think> </think><reasoning>")),
    "an empty adjustment": everywhere(lambda reply: reply.replace("<output>", "<adjustment/><output>")),
    "a wide letter": everywhere(lambda reply: re.sub("<output>([A-D])<", lambda o: f"<output>{wide(o[1])}<", reply)),
    "a letter in words": everywhere(lambda reply: re.sub("<output>([A-D])<", r"<output>**正确答案：\1。**<", reply)),
    "two letters": everywhere(lambda reply: re.sub("<output>([A-D])<", r"<output>\1、D<", reply)),
}
NEW_TEXT = {"an instruction inside", "an unknown entity", "nested", "a tag twice"}
"""Those that put something into a text, a second tag if it is misspelt: what stands there is what went in."""

characters = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("<>&;/\"'`=＜＞／＆[]!?-#\r\n\t 　ＡＢbA问step"),
    max_size=12,
)
words = st.sampled_from(
    [
        "item",
        "question",
        "<step>",
        "</think>",
        "＜step＞",
        "List<Item>",
        "&amp;",
        "&#66;",
        "<!-- x -->",
        "]]>",
        "```",
        "B. ",
    ]
)
text = st.lists(characters | words, min_size=1, max_size=3).map("".join).map(str.strip).filter(bool)
ITEMS = items_of(text)

JUDGED = (
    "<judgement>\n<rigor>4</rigor>\n<difficulty>3</difficulty>\n<innovation>3</innovation>\n<clarity>5</clarity>\n"
    "<educational_value>4</educational_value>\n<feedback>{}</feedback>\n</judgement>"
)


@st.composite
def spoilt(draw, replies):
    """A reply, what becomes of it by one to four faults, and how many those are."""
    reply = spoiled = draw(replies)
    faults = draw(st.lists(st.sampled_from(sorted(set(FAULTS) - NEW_TEXT)), min_size=1, max_size=4))
    sections = [name for name in faults if name.startswith("CDATA")]
    for fault in [name for name in faults if name not in sections] + sections[:1]:  # so that no other changes its text
        spoiled = FAULTS[fault](spoiled, lambda size: draw(st.integers(0, size - 1)))
    return reply, spoiled, len(faults)


@settings(max_examples=300)
@given(spoilt(ITEMS.map(write)))
def test_after_any_faults_the_texts_are_those_that_went_in_or_the_reply_is_refused(replies):
    item, strict = parse(replies[0]), parse(replies[1])
    # Several faults can make another whole document, one step of two: nothing tells it from one that was meant.
    assume(replies[2] == 1 or isinstance(strict, Malformed) or strict == item)

    found = mend(replies[1])

    assert isinstance(item, Item)
    if not isinstance(found, Malformed):
        assert found[0] == item
        assert found[1] or parse(replies[1]) == item


@given(spoilt(text.map(html.escape).map(JUDGED.format)))
def test_so_are_those_of_a_judgement(replies):
    judgement = parse_as(JUDGEMENT, replies[0])

    found = mend_as(JUDGEMENT, replies[1])

    assert not isinstance(judgement, Malformed)
    if not isinstance(found, Malformed):
        assert found[0] == judgement
        assert found[1] or parse_as(JUDGEMENT, replies[1]) == judgement


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("fenced", ("code_fence",)),
        ("fenced, never closed", ("code_fence",)),
        ("fenced with tildes", ("code_fence",)),
        ("prose around", ("surrounding_text",)),
        ("a byte order mark", ()),
        ("a declaration", ()),
        ("thoughts", ("thoughts",)),
        ("thoughts that began in the prompt", ("thoughts",)),
        ("thoughts without an end", "only_thoughts"),
        ("escaped as a whole", ("escaped_document",)),
        ("escaped twice", "not_xml"),
        ("wide", ("tag_spelling",)),
        ("wide delimiters", ("tag_spelling",)),
        ("one wide tag", ("tag_spelling",)),
        ("one wide bracket", ("tag_spelling",)),
        ("upper case", ("tag_spelling", "attributes")),
        ("capitals", ("tag_spelling", "attributes")),
        ("a space in a tag", ("tag_spelling",)),
        ("an attribute", ("attributes",)),
        ("a namespace", "wrong_shape"),
        ("a missing end tag", ("missing_end_tags",)),
        ("a missing start tag", "not_xml"),
        ("crossed end tags", "not_xml"),
        ("a wrong end tag", "not_xml"),
        ("a tag twice", "not_xml"),
        ("an element twice", "wrong_shape"),
        ("said twice", "several_documents"),
        ("nested", "several_documents"),
        ("bare & and <", ("bare_markup",)),
        ("CDATA", ()),
        ("CDATA that never ends", "not_xml"),
        ("a comment between", ()),
        ("a comment inside", "wrong_shape"),
        ("an instruction between", ()),
        ("references", ()),
        ("a DTD", "doctype"),
        ("a NUL", "not_xml"),
        ("a control character", "not_xml"),
        ("half a surrogate pair", "not_xml"),
        ("steps counted from zero", ("step_numbers",)),
        ("steps counted backwards", "steps_misnumbered"),
        ("one step misnumbered", ("step_numbers",)),
        ("wide numbers", ("step_numbers",)),
        ("an empty think more", ("empty_part",)),
        ("an empty adjustment", ("empty_part",)),
        ("a wide letter", ("answer_letter",)),
        ("a letter in words", ("answer_letter",)),
        ("two letters", "wrong_shape"),
    ],
)
def test_a_fault_is_mended_and_named_or_refused(fault, outcome):
    item = an_item(question="a < b & c？", adjustment="改")

    found = mend(FAULTS[fault](write(item), lambda size: size // 2))

    assert found.reason == outcome if isinstance(outcome, str) else found == (item, outcome)


# What goes into a text stays there, as it stands; what is taken for markup is refused.
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("PHP 里 <?php echo 1; ?> 的输出", "PHP 里 <?php echo 1; ?> 的输出"),
        ("&nbsp;与&copy;", "&nbsp;与&copy;"),
        ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("&lt;item&gt;", "<item>"),
        ("List<Item> 与 Map<Question, Answer>", "List<Item> 与 Map<Question, Answer>"),
        ("标签＜step＞与＜／step＞ & 其他", "标签＜step＞与＜／step＞ & 其他"),
        ("<a href='x'>链接</a>", "<a href='x'>链接</a>"),
        ("Ａ１＋Ｂ２ & ①", "Ａ１＋Ｂ２ & ①"),
        ("<![CDATA[<step n='9'>]]>与 & ", "<step n='9'>与 &"),
        ("<xi:include href='file:///etc/passwd'/>", "<xi:include href='file:///etc/passwd'/>"),
        ("见 <step> 标签", None),
        ("见 <item> 标签", None),
        ("<!-- 注释 --> & ", None),
        ("<!-- 从不结束 & ", None),
        ("<![CDATA[a]]>b]]>", None),
        ("<!DOCTYPE html> & ", None),
        ("&#0;", None),
        ("&#xD800;", None),
        ("a\x0bb", None),
        ("a\ufffeb", None),
    ],
)
def test_what_stands_in_a_text_is_kept_to_the_letter(written, read):
    found = mend(PLAIN.replace("先回忆《巴黎协定》的背景。", written))

    assert isinstance(found, Malformed) if read is None else found[0] == an_item(think=read)


@pytest.mark.parametrize(
    "reply",
    [
        f"草稿：{DRAFT}\n```xml\n{PLAIN}\n```",
        f"```xml\n{DRAFT}\n```\n```xml\n{PLAIN}\n```",
        f"{DRAFT[:60]}\n{PLAIN}",
        f"<think>{DRAFT}</think>",
        f"<think>先想<item>再写\n{PLAIN}",
        f"{PLAIN}\n<output>C</output>",
        f"<answer>C</answer>\n<question>\n{PLAIN}",
        f"{PLAIN}\n{DRAFT.upper()}",
        f"{html.escape(DRAFT)}\n{PLAIN.replace('<item>', '')}",
    ],
)
def test_of_two_documents_none_is_chosen(reply):
    assert isinstance(mend(reply), Malformed)


def test_a_long_thought_does_not_make_a_document_too_large():
    thought = "想" * 2 * MAX_BYTES

    assert mend(f"<think>{thought}</think>{PLAIN}") == (an_item(), ("thoughts",))
    assert mend(f"<think>{thought * 8}</think>{PLAIN}").reason == "too_large"


def test_every_repair_says_what_it_does_and_is_listed_once():
    assert all(repair.__doc__ and repair.__name__ == name for name, repair in REPAIRS.items())
    assert tuple(REPAIRS)[: len(AROUND)] == AROUND


BOMBS = (
    "<",
    "&",
    "```\n<item>",
    "<!--",
    "<![CDATA[",
    "]]>",
    "<item>",
    "</item>",
    "<A>",
    "</think>",
    "＜step＞",
    "&lt;",
)
BOMBS += (
    "<output> ",
    "<output>B x</output>",
    "<step n=",
    "<A a='1' ",
    "</think> <think/>",
    "\n",
    "　",
    "思",
    "ﷺ",
    "&#",
)
PLACES = {
    "alone": lambda bomb: bomb,
    "before": lambda bomb: bomb + PLAIN,
    "after": lambda bomb: PLAIN + bomb,
    "in a text": lambda bomb: PLAIN.replace("</think>", bomb + "</think>"),
    "in the answer": lambda bomb: PLAIN.replace("</output>", bomb + "</output>"),
    "instead of the end": lambda bomb: PLAIN[:-20] + bomb,
}


def seconds(reply: str) -> float:
    """CPU time of mending, the least of two."""
    taken = []
    for _ in range(2):
        begun = time.process_time()
        mend(reply)
        taken.append(time.process_time() - begun)
    return min(taken)


@pytest.mark.parametrize("place", PLACES)
def test_time_grows_no_faster_than_the_reply(place):
    for bomb in BOMBS:
        size = (MAX_BYTES - 2_000) // len(bomb.encode())

        small, large = (seconds(PLACES[place](bomb * (size // part))) for part in (8, 1))

        assert large < 24 * small + 0.05, bomb  # eight times the reply; squared it would be 64 times


@pytest.mark.parametrize("form", [ITEM, ANSWER, JUDGEMENT], ids=lambda form: form.root)
@pytest.mark.parametrize("size", [MAX_REPLY, 10_000_000])
def test_ten_megabytes_of_anything_are_refused_at_once(form, size):
    for bomb in BOMBS:
        begun = time.process_time()

        found = mend_as(form, bomb * (size // len(bomb)))

        assert isinstance(found, Malformed)
        assert time.process_time() - begun < 1, bomb


def test_the_depth_of_a_document_is_no_matter():
    for depth in (300, 3_000, 1_000_000):
        assert isinstance(mend("<item>" + "<b>" * depth + "</b>" * depth + "</item>"), Malformed)


WATCH = textwrap.dedent(
    """
    import ctypes, os, struct, sys
    from lxml import etree
    from schemas.chain import ANSWER, ITEM, JUDGEMENT, Malformed, parse_as, write
    from schemas.repair import mend_as
    from tests.curate.builders import an_item, items_of

    folder, replies = sys.argv[1], open(sys.argv[2], encoding="utf-8").read().split("\\0")
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, folder.encode(), 0x20) >= 0  # IN_OPEN, by Python or by libxml2

    def opened():
        try:
            return os.read(watch, 65536).count(b"canary")
        except BlockingIOError:
            return 0

    etree.parse(folder + "/canary.dtd", etree.XMLParser(recover=True))
    assert opened() == 1, "the watch sees what libxml2 opens"
    for form in (ITEM, ANSWER, JUDGEMENT):
        mend_as(form, write(an_item()).replace("<think>", "<!-- --><think>"))  # reads chain.xsd, once
    events = []
    sys.addaudithook(lambda name, _: events.append(name) if name.split(".")[0] in WATCHED else None)
    WATCHED = {"open", "os", "socket", "urllib", "ftplib", "http", "subprocess", "import", "shutil", "glob"}
    read = [mend_as(form, reply) for form in (ITEM, ANSWER, JUDGEMENT) for reply in replies]
    WATCHED = set()
    assert opened() == 0, "no file was opened"
    assert not events, events
    assert "SECRET" not in repr(read), "nor its text taken in"
    print(len(read))
    """
)


def test_no_reply_makes_the_parser_open_a_file_or_a_connection(tmp_path):
    (tmp_path / "canary.dtd").write_text("<!ENTITY a 'SECRET'>SECRET")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        web = f"http://127.0.0.1:{server.getsockname()[1]}/canary.dtd"
        replies = [
            reply
            for place in (f"file://{tmp_path}/canary.dtd", f"{tmp_path}/canary.dtd", web)
            for reply in (
                f'<!DOCTYPE item SYSTEM "{place}">{PLAIN.replace("先", "&a;")}',
                f'<!DOCTYPE item PUBLIC "-//W3C//DTD XHTML 1.0//EN" "{place}">{PLAIN}',
                f'<!DOCTYPE item [<!ENTITY a SYSTEM "{place}">]>{PLAIN.replace("先", "&a;")}',
                f'<!DOCTYPE item [<!ENTITY % a SYSTEM "{place}"> %a;]>{PLAIN.replace("先", "&a;")}',
                f'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE item SYSTEM "{place}"+AD4-{PLAIN}',
                f'<?xml-stylesheet type="text/xsl" href="{place}"?>{PLAIN}',
                f'<?xml-model href="{place}"?>{PLAIN}',
                PLAIN.replace("先", f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{place}"/>'),
                PLAIN.replace("先", f'<xi:include href="{place}" parse="text"/>'),
                PLAIN.replace(
                    "<item>",
                    '<item xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
                    f'xsi:noNamespaceSchemaLocation="{place}" xsi:schemaLocation="x {place}">',
                ),
                PLAIN.replace("<item>", f'<item xml:base="{place}">'),
                PLAIN.replace("<item>", f'<item href="{place}" noNamespaceSchemaLocation="{place}">'),
                html.escape(f'<!DOCTYPE item SYSTEM "{place}">{PLAIN}'),
            )
        ]
        (tmp_path / "replies").write_text("\0".join(replies), encoding="utf-8")

        found = subprocess.run(
            [sys.executable, "-c", WATCH, str(tmp_path), str(tmp_path / "replies")], capture_output=True, text=True
        )

        assert found.stdout == f"{3 * len(replies)}\n", found.stderr
        with pytest.raises(BlockingIOError):
            server.accept()


def test_entities_that_grow_are_refused_before_they_do():
    levels = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE item [<!ENTITY a0 "哈">{levels}]>{PLAIN.replace("先", "&a9;")}'

    for reply in (bomb, html.escape(bomb), f"```xml\n{bomb}\n```", f"<think>{bomb}</think>{bomb}"):
        assert isinstance(mend(reply), Malformed)
