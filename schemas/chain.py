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


class Shape(Struct, frozen=True):
    """The elements of a document."""

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
    found = PLAIN.fullmatch(text)
    if not found or "]]>" in text:
        return None
    read = _reading(text)
    question, a, b, c, d, think, steps, reflection, adjustment, answer = found.groups()
    parts = [part and read(part) for part in (think, reflection, adjustment)]
    item = Item(
        question=read(question),
        options=(read(a), read(b), read(c), read(d)),
        think=parts[0] or "",
        steps=_plain_steps(steps, read),
        reflection=parts[1] or "",
        adjustment=parts[2],
        answer=answer,  # type: ignore[arg-type]  # the pattern allows A to D only
    )
    return item if item.question and all(item.options) and item.steps and "" not in parts else None


def _plain_answer(text: str) -> Answer | None:
    found = PLAIN_ANSWER.fullmatch(text)
    if not found or "]]>" in text:
        return None
    steps = _plain_steps(found[1], _reading(text))
    return Answer(steps=steps, answer=found[2]) if steps else None  # type: ignore[arg-type]  # as above


def _plain_judgement(text: str) -> Judgement | None:
    found = PLAIN_JUDGEMENT.fullmatch(text)
    if not found or "]]>" in text:
        return None
    *marks, feedback = found.groups()
    feedback = _reading(text)(feedback)
    return Judgement(**dict(zip(MARKS, map(int, marks), strict=True)), feedback=feedback) if feedback else None


def _plain_steps(text: str, read: Callable[[str], str]) -> tuple[str, ...]:
    """Return the steps, none if one is blank or has a number that is not its place."""
    steps: list[str] = []
    for place, (number, words) in enumerate(STEP.findall(text), 1):
        step = read(words)
        if not step or (number and number != str(place)):
            return ()
        steps.append(step)
    return tuple(steps)


def _reading(text: str) -> Callable[[str], str]:
    """Return what reads a text out of a document."""
    return _unescape if "&" in text else str.strip


def _unescape(text: str) -> str:
    for reference, character in ESCAPES:
        text = text.replace(reference, character)
    return text.strip()


def _any(form: Form[T], data: bytes) -> T | Malformed:
    try:
        root = etree.fromstring(data, _parser())
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
    made = {
        "think": _part("think", item.think),
        "reasoning": "<reasoning>" + "".join(f"<step>{_escape(step)}</step>" for step in item.steps) + "</reasoning>",
        "reflection": _part("reflection", item.reflection),
        "adjustment": _part("adjustment", item.adjustment),
        "output": f"<output>{item.answer}</output>",
    }
    return "\n".join(made[part] for part in PARTS if part in parts and made[part])


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


def _escape(text: str) -> str:
    # A carriage return as it is would be read as a line feed.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


ESCAPES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))
"""The references that every XML has, in the order in which they are undone."""
# What XML allows in a text, less what it would change or read as markup: `<`, other references, the carriage return.
_PLAIN = r"[^<&\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]*+"
_TEXT = rf"{_PLAIN}(?:&(?:lt|gt|quot|apos|amp);{_PLAIN})*"
_SPACE = r"[ \t\n]*+"
_STEP = r'<step(?: n="{}")?>{}</step>'
_NUMBER = "[1-9][0-9]{0,8}"


def _element(name: str) -> str:
    return rf"<{name}>({_TEXT})</{name}>{_SPACE}"


def _token(name: str, text: str) -> str:
    return rf"<{name}>{_SPACE}({text}){_SPACE}</{name}>{_SPACE}"


STEP = re.compile(_STEP.format(f"({_NUMBER})", f"({_TEXT})"))
_REASONING = rf"<reasoning>{_SPACE}((?:{_STEP.format(_NUMBER, _TEXT)}{_SPACE})+)</reasoning>{_SPACE}"
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


def _parser() -> etree.XMLParser:
    # A parser keeps state; one per call is safe in threads. The encoding is given because the text was decoded long
    # ago: a reply that declares GB2312 would be read as such.
    return etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False)


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
