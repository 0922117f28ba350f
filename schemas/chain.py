"""The one parser of what a teacher writes: XML in, Item, Answer or Judgement out, and back.

Strict: no DTD, no entities, no network, no namespaces, `chain.xsd` obeyed to the letter. lxml's `recover` is never
used: it accepts broken replies with silently wrong text. What a strict parse refuses, `repair` may mend, and says what
it mended. A plain reply is read by a pattern, several times faster; a test holds the pattern and the XSD together.

Why a reply is refused, a closed list of codes:

    empty              nothing but white space
    too_large          more than MAX_BYTES
    doctype            a DTD or an entity declaration, anywhere
    not_xml            not well-formed; a NUL, a control character and half a surrogate pair are in no XML
    wrong_shape        not what `chain.xsd` says, a blank text, a namespace, a comment or instruction inside a text
    steps_misnumbered  a step with a number that is not its place
    several_documents  of `repair`: the root element begins more than once, and which one counts would be a guess
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

from lxml import etree
from msgspec import Struct

from schemas.record import LETTERS, Answer, Item, Judgement, Letter, Row

MAX_BYTES = 65_536
MAX_DETAIL = 300  # characters of what the XML parser says; it quotes a wrong text in full
PARTS = ("think", "reasoning", "reflection", "adjustment", "output")
MARKS = ("rigor", "difficulty", "innovation", "clarity", "educational_value")

T = TypeVar("T", bound=Row)
Texts = Mapping[str, list[str]]
"""Element to what stands in it, stripped, in the order of the document; one that is absent has nothing."""


class Malformed(Struct, frozen=True):
    """Why a reply does not hold what it was asked for: a code and what a person, or the teacher asked again, needs."""

    reason: str
    detail: str


class Shape(Struct, frozen=True, eq=False):
    """The elements of a document; equal to itself alone, so that it is a quick key of a cache."""

    root: str
    containers: tuple[str, ...]
    """Those that hold elements, the root among them."""
    texts: tuple[str, ...]
    """Those that hold text."""


class Form(Shape, Generic[T], frozen=True):
    """One of the documents that a teacher is asked for, and how it is read."""

    plain: Callable[[str], T | None]
    """Of a reply without references, comments and other rarities; None leaves it to the XML parser."""
    tree: Callable[[Texts], T]
    """Of one that the schema has passed."""


def parse(text: str) -> Item | Malformed:
    """Return the item a reply holds; Malformed if it is not exactly one.

    White space around each text is stripped, and a line ends as XML has it, with a line feed alone.
    """
    return parse_as(ITEM, text)


def parse_as(form: Form[T], text: str) -> T | Malformed:
    """Return what a reply of this form holds, in the same way."""
    text = text.strip()
    if len(text) <= MAX_BYTES // 4 and (found := form.plain(text)):
        return found
    if not text:
        return Malformed("empty", "the reply is empty")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        return Malformed("not_xml", f"half a surrogate pair at character {error.start}")
    if len(data) > MAX_BYTES:
        return Malformed("too_large", f"{len(data)} bytes, at most {MAX_BYTES}")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return Malformed("doctype", "a DTD or entity declaration is not allowed")
    return _any(form, data)


def _plain_item(text: str) -> Item | None:
    texts = _plain(PLAIN, text)
    if texts is None:
        return None
    question, a, b, c, d, think, *steps, reflection, adjustment, answer = texts
    return Item(
        question=question,  # type: ignore[arg-type]  # only what may be absent is None: a part, a step after the first
        options=(a, b, c, d),  # type: ignore[arg-type]
        think=think or "",
        steps=tuple(filter(None, steps)),
        reflection=reflection or "",
        adjustment=adjustment,
        answer=answer,  # type: ignore[arg-type]  # the pattern allows A to D only
    )


def _plain_answer(text: str) -> Answer | None:
    texts = _plain(PLAIN_ANSWER, text)
    if texts is None:
        return None
    *steps, answer = texts
    return Answer(steps=tuple(filter(None, steps)), answer=answer)  # type: ignore[arg-type]  # as above


def _plain_judgement(text: str) -> Judgement | None:
    texts = _plain(PLAIN_JUDGEMENT, text)
    if texts is None:
        return None
    *marks, feedback = texts
    return Judgement(**dict(zip(MARKS, map(int, marks), strict=True)), feedback=feedback)  # type: ignore[arg-type]


def _plain(pattern: re.Pattern[str], text: str) -> list[str | None] | None:
    """Return what the groups of a pattern find, stripped, None for an element that is absent.

    None if the pattern does not fit, a text is blank, or one holds what XML would change, refuse or read as markup.
    """
    found = pattern.fullmatch(text)
    # The search for one character is several times as fast as that for three.
    if not found or not _AS_IT_IS.fullmatch(text) or ("]" in text and "]]>" in text):
        return None
    texts = [part and part.strip() for part in found.groups()]
    if "&" in text:
        if _OTHER_REFERENCE.search(text):
            return None
        texts = [part and _unescape(part) for part in texts]
    return None if "" in texts else texts


def _unescape(text: str) -> str:
    for reference, character in ESCAPES:
        text = text.replace(reference, character)
    return text.strip()


def _any(form: Form[T], data: bytes) -> T | Malformed:
    try:
        root = etree.fromstring(data, _parser.xml)
    except etree.XMLSyntaxError as error:
        return Malformed("not_xml", str(error)[:MAX_DETAIL])
    fault = _shape_fault(form, root, data)
    if fault:
        return fault
    texts = defaultdict[str, list[str]](list)
    for element in root.iter(*form.texts):
        text = (element.text or "").strip()
        if not text:
            return Malformed("wrong_shape", f"<{element.tag}> holds nothing but white space")
        texts[element.tag].append(text)
        if element.tag == "step" and (number := element.get("n")) is not None:
            place = str(len(texts["step"]))
            if number.strip().lstrip("+0") != place:
                return Malformed("steps_misnumbered", f"step {place} is numbered {number[:MAX_DETAIL]}")
    return form.tree(texts)


def _shape_fault(form: Form[T], root: "etree._Element", data: bytes) -> Malformed | None:
    if b"xmlns" in data and any(element.nsmap for element in root.iter()):
        # xsi:schemaLocation, which a schema cannot refuse, names files and addresses to be read.
        return Malformed("wrong_shape", "a namespace is not allowed")
    if root.tag != form.root:
        return Malformed("wrong_shape", f"the document is <{root.tag[:MAX_DETAIL]}>, not <{form.root}>")
    if b"<!--" in data or b"<?" in data:
        # XML would drop them without a trace: <?php … ?> from a question about PHP, <!-- … --> from one about HTML.
        for node in root.iter(etree.Comment, etree.ProcessingInstruction):
            parent = node.getparent()
            if parent is not None and parent.tag not in form.containers:
                return Malformed("wrong_shape", f"a comment or processing instruction inside <{parent.tag}>")
    schema = _schema()
    if not schema.validate(root):
        first = schema.error_log[0]
        return Malformed("wrong_shape", f"line {first.line}: {first.message}"[:MAX_DETAIL])
    return None


def _item(texts: Texts) -> Item:
    return Item(
        question=texts["question"][0],
        options=tuple(texts[letter][0] for letter in LETTERS),  # type: ignore[arg-type]
        think="".join(texts["think"]),
        steps=tuple(texts["step"]),
        reflection="".join(texts["reflection"]),
        adjustment=texts["adjustment"][0] if texts["adjustment"] else None,
        answer=texts["output"][0],  # type: ignore[arg-type]  # the schema allows A to D only
    )


def _answer(texts: Texts) -> Answer:
    return Answer(steps=tuple(texts["step"]), answer=texts["output"][0])  # type: ignore[arg-type]  # as above


def _judgement(texts: Texts) -> Judgement:
    return Judgement(**{mark: int(texts[mark][0]) for mark in MARKS}, feedback=texts["feedback"][0])


def render(item: Item, parts: tuple[str, ...] = PARTS) -> str:
    """Return the chain alone, as a solver is to write it: the chosen parts in schema order, a line each.

    A part that the item lacks is left out.
    """
    return "\n".join([text for part, text in parts_of(item).items() if part in parts])


def parts_of(item: Item) -> dict[str, str]:
    """Return by name, in schema order, the parts that an item has, each as `render` writes it."""
    think, steps, reflection, adjustment = item.think, item.steps, item.reflection, item.adjustment or ""
    if _has_markup("".join((think, *steps, reflection, adjustment))):  # few have any
        think, reflection, adjustment = _escape(think), _escape(reflection), _escape(adjustment)
        steps = tuple(map(_escape, steps))
    made: dict[str, str] = {}
    # With long texts `+` takes half of the time that an f-string takes.
    if think:
        made["think"] = "<think>" + think + "</think>"
    made["reasoning"] = "<reasoning><step>" + "</step><step>".join(steps) + "</step></reasoning>"
    if reflection:
        made["reflection"] = "<reflection>" + reflection + "</reflection>"
    if adjustment:
        made["adjustment"] = "<adjustment>" + adjustment + "</adjustment>"
    made["output"] = f"<output>{item.answer}</output>"
    return made


def write(item: Item) -> str:
    """Return the whole item as a teacher writes it, without the parts that it lacks.

    `parse` reads it back to an equal item if each text is stripped and of characters that XML has.
    """
    options = "".join(f"<{a}>{_escape(text)}</{a}>" for a, text in zip(LETTERS, item.options, strict=True))
    steps = "".join(f'<step n="{n}">{_escape(step)}</step>' for n, step in enumerate(item.steps, 1))
    lines = (
        "<item>",
        f"<question>{_escape(item.question)}</question>",
        f"<options>{options}</options>",
        _part("think", item.think),
        f"<reasoning>{steps}</reasoning>",
        _part("reflection", item.reflection),
        _part("adjustment", item.adjustment),
        f"<output>{item.answer}</output>",
        "</item>",
    )
    return "\n".join(filter(None, lines))


def _part(name: str, text: str | None) -> str:
    return f"<{name}>{_escape(text)}</{name}>" if text else ""


def _has_markup(text: str) -> bool:
    return "&" in text or "<" in text or ">" in text or "\r" in text


def _escape(text: str) -> str:
    # A carriage return as it is would be read as a line feed.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


ESCAPES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))
"""The references that every XML has, in the order in which they are undone."""
# The characters of XML, less the carriage return, which it would change.
_AS_IT_IS = re.compile(r"[\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*+")
_OTHER_REFERENCE = re.compile("&(?!(?:lt|gt|quot|apos|amp);)")
_SPACE = r"[ \t\n]*+"
PLAIN_STEPS = 12
"""Steps that a plain reply has at most: each takes a group of the pattern. More are left to the XML parser."""


def _element(name: str) -> str:
    return rf"<{name}>([^<]*+)</{name}>{_SPACE}"


def _token(name: str, text: str) -> str:
    return rf"<{name}>{_SPACE}({text}){_SPACE}</{name}>{_SPACE}"


def _steps() -> str:
    """Return the pattern of the first step, which may be followed by that of the second, and so on."""
    steps = ""
    for place in range(PLAIN_STEPS, 0, -1):
        steps = rf'<step(?: n="{place}")?>([^<]*+)</step>{_SPACE}' + (f"(?:{steps})?" if steps else "")
    return steps


_REASONING = rf"<reasoning>{_SPACE}{_steps()}</reasoning>{_SPACE}"
PLAIN = re.compile(
    rf"<item>{_SPACE}{_element('question')}<options>{_SPACE}{''.join(map(_element, LETTERS))}</options>{_SPACE}"
    rf"(?:{_element('think')})?{_REASONING}(?:{_element('reflection')})?(?:{_element('adjustment')})?"
    rf"{_token('output', '[ABCD]')}</item>"
)
PLAIN_ANSWER = re.compile(rf"<answer>{_SPACE}{_REASONING}{_token('output', '[ABCD]')}</answer>")
PLAIN_JUDGEMENT = re.compile(
    rf"<judgement>{_SPACE}{''.join(_token(mark, '[1-5]') for mark in MARKS)}{_element('feedback')}</judgement>"
)
OUTPUT = re.compile(r"<output>\s*([A-DＡ-Ｄ])\s*</output>")


def output(text: str) -> Letter | None:
    """Return the letter of the last `<output>` in a chain that need not be whole; rewards and prediction share it."""
    found = OUTPUT.findall(text)
    return LETTERS["ABCDＡＢＣＤ".index(found[-1]) % 4] if found else None


class _Parser(threading.local):
    """An XML parser for each thread: it keeps state, and may be used again after an error."""

    def __init__(self) -> None:
        # The encoding is given because the text was decoded long ago: a reply that declares GB2312 would be read so.
        self.xml = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False)


_parser = _Parser()


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(Path(__file__).with_name("chain.xsd")))


ITEM: Form[Item] = Form(
    root="item",
    containers=("item", "options", "reasoning"),
    texts=("question", *LETTERS, "think", "step", "reflection", "adjustment", "output"),
    plain=_plain_item,
    tree=_item,
)
ANSWER: Form[Answer] = Form(
    root="answer",
    containers=("answer", "reasoning"),
    texts=("step", "output"),
    plain=_plain_answer,
    tree=_answer,
)
JUDGEMENT: Form[Judgement] = Form(
    root="judgement",
    containers=("judgement",),
    texts=(*MARKS, "feedback"),
    plain=_plain_judgement,
    tree=_judgement,
)
