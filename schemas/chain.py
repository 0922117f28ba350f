"""The one parser of what a teacher writes: XML in, Item, Answer or Judgement out, and back.

Strict: no DTD, no entities, no network, no namespaces, `chain.xsd` obeyed to the letter. lxml's `recover` is never
used: it accepts broken replies with silently wrong text. What a strict parse refuses, `repair` may mend, and says what
it mended. A plain reply is read by a pattern, twenty times faster; a test holds the pattern and the XSD together.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar
from xml.sax.saxutils import escape

from lxml import etree
from msgspec import Struct

from schemas.record import LETTERS, Answer, Item, Judgement, Letter, Row

MAX_BYTES = 65_536
PARTS = ("think", "reasoning", "reflection", "adjustment", "output")
MARKS = ("rigor", "difficulty", "innovation", "clarity", "educational_value")

T = TypeVar("T", bound=Row)


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
    tree: Callable[["etree._Element"], T]
    """Of one that the schema has passed."""
    words: Callable[[T], tuple[str, ...]]
    """The texts that must say something."""


def parse(text: str) -> Item | Malformed:
    """Return the item a reply holds, white space around each text stripped; Malformed if it is not exactly one."""
    return parse_as(ITEM, text)


def parse_as(form: Form[T], text: str) -> T | Malformed:
    """Return what a reply of this form holds, in the same way."""
    text = text.strip()
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
    found = form.plain(text) or _any(form, data)
    if not isinstance(found, Malformed) and not all(form.words(found)):
        return Malformed("wrong_shape", "a text holds nothing but white space")
    return found


def _plain_item(text: str) -> Item | None:
    found = PLAIN.fullmatch(text)
    if not found or "]]>" in text or (found["adjustment"] is not None and not found["adjustment"].strip()):
        return None
    return Item(
        question=found["question"].strip(),
        options=(found["A"].strip(), found["B"].strip(), found["C"].strip(), found["D"].strip()),
        think=found["think"].strip(),
        steps=tuple(step.strip() for step in STEP.findall(found["steps"])),
        reflection=found["reflection"].strip(),
        adjustment=None if found["adjustment"] is None else found["adjustment"].strip(),
        answer=found["output"],  # type: ignore[arg-type]  # the pattern allows A to D only
    )


def _plain_answer(text: str) -> Answer | None:
    found = PLAIN_ANSWER.fullmatch(text)
    if not found or "]]>" in text:
        return None
    steps = tuple(step.strip() for step in STEP.findall(found["steps"]))
    return Answer(steps=steps, answer=found["output"])  # type: ignore[arg-type]  # the pattern allows A to D only


def _plain_judgement(text: str) -> Judgement | None:
    found = PLAIN_JUDGEMENT.fullmatch(text)
    if not found or "]]>" in text:
        return None
    return Judgement(**{mark: int(found[mark]) for mark in MARKS}, feedback=found["feedback"].strip())


def _any(form: Form[T], data: bytes) -> T | Malformed:
    try:
        root = etree.fromstring(data, _parser())
    except etree.XMLSyntaxError as error:
        return Malformed("not_xml", str(error))
    if any(element.nsmap for element in root.iter()):
        # xsi:schemaLocation, which a schema cannot refuse, names files and addresses to be read.
        return Malformed("wrong_shape", "a namespace is not allowed")
    if root.tag != form.root:
        return Malformed("wrong_shape", f"the document is <{root.tag}>, not <{form.root}>")
    schema = _schema()
    if not schema.validate(root):
        first = schema.error_log[0]
        return Malformed("wrong_shape", f"line {first.line}: {first.message}")
    return form.tree(root)


def _item(root: "etree._Element") -> Item:
    return Item(
        question=_text(root, "question"),
        options=tuple(_text(root, f"options/{letter}") for letter in LETTERS),  # type: ignore[arg-type]
        think=_text(root, "think"),
        steps=_steps(root),
        reflection=_text(root, "reflection"),
        adjustment=_text(root, "adjustment") or None,
        answer=_text(root, "output"),  # type: ignore[arg-type]  # the schema allows A to D only
    )


def _answer(root: "etree._Element") -> Answer:
    return Answer(steps=_steps(root), answer=_text(root, "output"))  # type: ignore[arg-type]  # as above


def _judgement(root: "etree._Element") -> Judgement:
    return Judgement(**{mark: int(_text(root, mark)) for mark in MARKS}, feedback=_text(root, "feedback"))


def _item_words(item: Item) -> tuple[str, ...]:
    return (item.question, *item.options, item.think, *item.steps, item.reflection)


def render(item: Item, parts: tuple[str, ...] = PARTS) -> str:
    """Return the chain alone, as a solver is to write it: the chosen parts in schema order, a line each."""
    made = {
        "think": f"<think>{escape(item.think)}</think>",
        "reasoning": "<reasoning>" + "".join(f"<step>{escape(step)}</step>" for step in item.steps) + "</reasoning>",
        "reflection": f"<reflection>{escape(item.reflection)}</reflection>",
        "adjustment": f"<adjustment>{escape(item.adjustment)}</adjustment>" if item.adjustment else "",
        "output": f"<output>{item.answer}</output>",
    }
    return "\n".join(made[part] for part in PARTS if part in parts and made[part])


def write(item: Item) -> str:
    """Return the whole item as a teacher writes it; `parse` reads it back to an equal item."""
    options = "".join(f"<{a}>{escape(text)}</{a}>" for a, text in zip(LETTERS, item.options, strict=True))
    steps = "".join(f'<step n="{n}">{escape(step)}</step>' for n, step in enumerate(item.steps, 1))
    adjustment = f"<adjustment>{escape(item.adjustment)}</adjustment>\n" if item.adjustment else ""
    return (
        f"<item>\n<question>{escape(item.question)}</question>\n<options>{options}</options>\n"
        f"<think>{escape(item.think)}</think>\n<reasoning>{steps}</reasoning>\n"
        f"<reflection>{escape(item.reflection)}</reflection>\n{adjustment}<output>{item.answer}</output>\n</item>"
    )


# What XML allows in a text, less what it would change or read as markup: `<`, `&` and the carriage return.
_TEXT = r"[^<&\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*"
_SPACE = r"[ \t\n]*"
_STEP = rf'<step(?: n="[1-9][0-9]{{0,8}}")?>({_TEXT})</step>'


def _element(name: str) -> str:
    return rf"<{name}>(?P<{name}>{_TEXT})</{name}>{_SPACE}"


def _token(name: str, text: str) -> str:
    return rf"<{name}>{_SPACE}(?P<{name}>{text}){_SPACE}</{name}>{_SPACE}"


STEP = re.compile(_STEP)
_REASONING = (
    rf"<reasoning>{_SPACE}(?P<steps>(?:{_STEP.replace('(' + _TEXT, '(?:' + _TEXT)}{_SPACE})+)</reasoning>{_SPACE}"
)
PLAIN = re.compile(
    rf"<item>{_SPACE}{_element('question')}<options>{_SPACE}{''.join(map(_element, LETTERS))}</options>{_SPACE}"
    rf"{_element('think')}{_REASONING}{_element('reflection')}(?:{_element('adjustment')})?"
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


def _steps(root: "etree._Element") -> tuple[str, ...]:
    return tuple("".join(step.itertext()).strip() for step in root.iterfind("reasoning/step"))


def _text(root: "etree._Element", path: str) -> str:
    node = root.find(path)
    return "" if node is None else "".join(node.itertext()).strip()


def _parser() -> etree.XMLParser:
    # A parser keeps state; one per call is safe in threads. The encoding is given because the text was decoded long
    # ago: a reply that declares GB2312 would be read as such.
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(Path(__file__).with_name("chain.xsd")))


ITEM: Form[Item] = Form(
    root="item",
    containers=("item", "options", "reasoning"),
    texts=("question", *LETTERS, "think", "step", "reflection", "adjustment", "output"),
    plain=_plain_item,
    tree=_item,
    words=_item_words,
)
ANSWER: Form[Answer] = Form(
    root="answer",
    containers=("answer", "reasoning"),
    texts=("step", "output"),
    plain=_plain_answer,
    tree=_answer,
    words=lambda answer: answer.steps,
)
JUDGEMENT: Form[Judgement] = Form(
    root="judgement",
    containers=("judgement",),
    texts=(*MARKS, "feedback"),
    plain=_plain_judgement,
    tree=_judgement,
    words=lambda judgement: (judgement.feedback,),
)
