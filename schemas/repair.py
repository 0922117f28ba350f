"""Repairs: what may be mended in a reply without guessing, each named and recorded.

The asking loop and curation share them, so that no reply is paid for a second time that curation would have mended.
Every repair keeps the text: it moves or escapes markup, it never drops a character of a field.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from schemas.chain import ITEM, MARKS, Form, Malformed, Shape, parse_as
from schemas.record import Item, Row

CLOSES = {"think": "options", "reflection": "reasoning", "output": "reasoning"}
"""Element to the container that has ended by the time it begins."""
_REFERENCE = r"&(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});"

T = TypeVar("T", bound=Row)


def mend(text: str) -> tuple[Item, tuple[str, ...]] | Malformed:
    """Return the item and the names of the repairs it took, none for a strict reply.

    Malformed, with what is wrong in the reply as it came, if it stays broken.
    """
    return mend_as(ITEM, text)


def mend_as(form: Form[T], text: str) -> tuple[T, tuple[str, ...]] | Malformed:
    """Return what a reply of this form holds, in the same way."""
    strict = parse_as(form, text)
    if not isinstance(strict, Malformed):
        return strict, ()
    if strict.reason == "doctype":
        return strict  # what a declaration would have made of the text is not for a repair to say
    applied: list[str] = []
    for name, repair in REPAIRS.items():
        mended = repair(text, form)
        if mended == text:
            continue
        text = mended
        applied.append(name)
        found = parse_as(form, text)
        if not isinstance(found, Malformed):
            return found, tuple(applied)
    return strict


def code_fence(text: str, shape: Shape) -> str:
    """Take the document out of the Markdown code fence around it; a fence inside the document is text."""
    closed = rf"```[a-zA-Z]*\s*\n\s*(<{shape.root}>.*</{shape.root}>)\s*\n\s*```"
    unclosed = rf"```[a-zA-Z]*\s*\n\s*(<{shape.root}>.*?)\s*(?:```\s*)?\Z"
    found = re.search(closed, text, re.DOTALL) or re.search(unclosed, text, re.DOTALL)
    return found[1] if found else text


def surrounding_text(text: str, shape: Shape) -> str:
    """Drop what stands before the first start tag of the root and after its last end tag."""
    last = f"</{shape.root}>"
    start, end = text.find(f"<{shape.root}>"), text.rfind(last)
    if start < 0:
        return text
    return text[start : end + len(last)] if end > start else text[start:]


def bare_markup(text: str, shape: Shape) -> str:
    """Escape each & that begins no XML reference, and each < and ]]> that belong to no known markup."""
    pieces: list[str] = []
    last = 0
    for markup in _markup(shape).finditer(text):
        pieces += [_escape(text[last : markup.start()]), markup[0]]
        last = markup.end()
    return "".join([*pieces, _escape(text[last:])])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("]]>", "]]&gt;")


def empty_adjustment(text: str, shape: Shape) -> str:
    """Take out an adjustment without text: the element is optional, so many a teacher leaves it empty."""
    if "adjustment" not in shape.texts:
        return text
    return re.sub(r"<adjustment>\s*</adjustment>|<adjustment\s*/>", "", text)


def missing_end_tags(text: str, shape: Shape) -> str:
    """Close a text element where the next tag begins, and the containers where they must end."""
    out: list[str] = []
    open_: str | None = None
    last = 0
    ended = {name for name in shape.containers if f"</{name}>" in text}
    for tag in _tag(shape).finditer(text):
        out.append(text[last : tag.start()])
        last = tag.end()
        if tag["end"]:
            name = tag["end"]
            if open_ and name != open_:
                out.append(f"</{open_}>")
            if name in shape.texts and name != open_:
                return text  # an end tag without its start: what it should close would be a guess
            open_ = None
        else:
            name = tag["start"]
            if open_:
                out.append(f"</{open_}>")
            container = CLOSES.get(name)
            if container in shape.containers and container not in ended:
                out.append(f"</{container}>")
                ended.add(container)
            open_ = name if name in shape.texts else None
        out.append(tag[0])
    out.append(text[last:])
    if open_:
        out.append(f"</{open_}>")
    if shape.root not in ended:
        out.append(f"</{shape.root}>")
    return "".join(out)


def answer_letter(text: str, shape: Shape) -> str:
    """Reduce （Ｂ）, 选项B or `B. its text` to the letter; an answer with words of its own is left alone."""
    if "output" not in shape.texts:
        return text

    def reduce(found: re.Match[str]) -> str:
        said = _ANSWER.fullmatch(unicodedata.normalize("NFKC", found[1]))
        if not said:
            return found[0]
        letter = said["letter"].upper()
        option = re.search(rf"<{letter}>([^<]*)</{letter}>", text)
        if said["text"] and not (option and fold(option[1]) == fold(said["text"])):
            return found[0]
        return f"<output>{letter}</output>"

    return re.sub(r"<output>([^<]*)</output>", reduce, text)


def mark_digit(text: str, shape: Shape) -> str:
    """Reduce ４, 4分, 4.0 or 4/5 to the mark; one between two marks or out of another number is left alone."""

    def reduce(found: re.Match[str]) -> str:
        said = _MARK.fullmatch(unicodedata.normalize("NFKC", found[2]))
        return f"<{found[1]}>{said[1]}</{found[1]}>" if said else found[0]

    return re.sub(rf"<({'|'.join(MARKS)})>([^<]*)</\1>", reduce, text) if set(MARKS) <= set(shape.texts) else text


def fold(text: str) -> str:
    """Return a text as a reader compares it: one width, no spaces, no closing stop."""
    return "".join(unicodedata.normalize("NFKC", text).split()).rstrip(".。")


_ANSWER = re.compile(
    r"\s*(?:(?:正确)?答案(?:是|为)?|选择|选项|选|(?:the )?(?:correct )?answer(?: is)?|option)?\s*:?\s*"
    r"[(\[【]?(?P<letter>[A-Da-d])(?![A-Za-z0-9])[)\]】]?(?:项|选项)?\s*[.。、:,]?\s*(?P<text>.*?)\s*",
    re.DOTALL | re.IGNORECASE,
)
_MARK = re.compile(r"\s*([1-5])(?:\.0)?\s*(?:/\s*5)?\s*分?\s*")


@cache
def _tag(shape: Shape) -> re.Pattern[str]:
    """Return what finds the tags of a document."""
    names = "|".join((*shape.containers, *shape.texts))
    return re.compile(rf"""</(?P<end>{names})\s*>|<(?P<start>{names})(?:\s+n\s*=\s*(?:"\d{{1,3}}"|'\d{{1,3}}'))?\s*>""")


@cache
def _markup(shape: Shape) -> re.Pattern[str]:
    """Return what finds all that is markup in a document, so that the rest is text."""
    empty = "|<adjustment\\s*/>" if "adjustment" in shape.texts else ""
    others = rf"<!\[CDATA\[.*?\]\]>|<!--(?:(?!--).)*-->{empty}|{_REFERENCE}"
    return re.compile(f"{others}|{_tag(shape).pattern}", re.DOTALL)


# In this order: a later repair may rely on what an earlier one has cleared away.
REPAIRS: dict[str, Callable[[str, Shape], str]] = {
    "code_fence": code_fence,
    "surrounding_text": surrounding_text,
    "bare_markup": bare_markup,
    "empty_adjustment": empty_adjustment,
    "missing_end_tags": missing_end_tags,
    "answer_letter": answer_letter,
    "mark_digit": mark_digit,
}
