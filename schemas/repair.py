"""Repairs: what may be mended in a reply without guessing, each named and recorded.

The asking loop and curation share them, so that no reply is paid for a second time that curation would have mended.
Every repair keeps the text: it moves or escapes markup, it never drops a character of a field.
"""

import re
import unicodedata
from collections.abc import Callable

from schemas.chain import Malformed, parse
from schemas.record import Item

TAGS = ("item", "question", "options", *"ABCD", "think", "reasoning", "step", "reflection", "adjustment", "output")
_TEXT_ONLY = tuple(tag for tag in TAGS if tag not in ("item", "options", "reasoning"))
_TAG = re.compile(
    rf"""</(?P<end>{"|".join(TAGS)})\s*>"""
    rf"""|<(?P<start>{"|".join(TAGS)})(?:\s+n\s*=\s*(?:"\d{{1,3}}"|'\d{{1,3}}'))?\s*>"""
)
_REFERENCE = r"&(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});"
_MARKUP = re.compile(
    rf"<!\[CDATA\[.*?\]\]>|<!--(?:(?!--).)*-->|<adjustment\s*/>|{_REFERENCE}|{_TAG.pattern}", re.DOTALL
)


def mend(text: str) -> tuple[Item, tuple[str, ...]] | Malformed:
    """Return the item and the names of the repairs it took, none for a strict reply.

    Malformed, with what is wrong in the reply as it came, if it stays broken.
    """
    strict = parse(text)
    if isinstance(strict, Item):
        return strict, ()
    if strict.reason == "doctype":
        return strict  # what a declaration would have made of the text is not for a repair to say
    applied: list[str] = []
    for name, repair in REPAIRS.items():
        mended = repair(text)
        if mended == text:
            continue
        text = mended
        applied.append(name)
        item = parse(text)
        if isinstance(item, Item):
            return item, tuple(applied)
    return strict


def code_fence(text: str) -> str:
    """Take the item out of the Markdown code fence around it; a fence inside the item is text."""
    closed = r"```[a-zA-Z]*\s*\n\s*(<item>.*</item>)\s*\n\s*```"
    unclosed = r"```[a-zA-Z]*\s*\n\s*(<item>.*?)\s*(?:```\s*)?\Z"
    found = re.search(closed, text, re.DOTALL) or re.search(unclosed, text, re.DOTALL)
    return found[1] if found else text


def surrounding_text(text: str) -> str:
    """Drop what stands before the first <item> and after the last </item>."""
    start, end = text.find("<item>"), text.rfind("</item>")
    if start < 0:
        return text
    return text[start : end + len("</item>")] if end > start else text[start:]


def bare_markup(text: str) -> str:
    """Escape each & that begins no XML reference, and each < and ]]> that belong to no known markup."""
    pieces: list[str] = []
    last = 0
    for markup in _MARKUP.finditer(text):
        pieces += [_escape(text[last : markup.start()]), markup[0]]
        last = markup.end()
    return "".join([*pieces, _escape(text[last:])])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("]]>", "]]&gt;")


def empty_adjustment(text: str) -> str:
    """Take out an adjustment without text: the element is optional, so many a teacher leaves it empty."""
    return re.sub(r"<adjustment>\s*</adjustment>|<adjustment\s*/>", "", text)


def missing_end_tags(text: str) -> str:
    """Close a text element where the next tag begins, and the containers where they must end."""
    out: list[str] = []
    open_: str | None = None
    last = 0
    for tag in _TAG.finditer(text):
        out.append(text[last : tag.start()])
        last = tag.end()
        if tag["end"]:
            name = tag["end"]
            if open_ and name != open_:
                out.append(f"</{open_}>")
            if name in _TEXT_ONLY and name != open_:
                return text  # an end tag without its start: what it should close would be a guess
            open_ = None
        else:
            name = tag["start"]
            if open_:
                out.append(f"</{open_}>")
            if name == "think" and "</options>" not in text:
                out.append("</options>")
            if name == "reflection" and "</reasoning>" not in text:
                out.append("</reasoning>")
            open_ = name if name in _TEXT_ONLY else None
        out.append(tag[0])
    out.append(text[last:])
    if open_:
        out.append(f"</{open_}>")
    if "</item>" not in text:
        out.append("</item>")
    return "".join(out)


def answer_letter(text: str) -> str:
    """Reduce （Ｂ）, 选项B or `B. its text` to the letter; an answer with words of its own is left alone."""

    def reduce(found: re.Match[str]) -> str:
        said = _ANSWER.fullmatch(unicodedata.normalize("NFKC", found[1]))
        if not said:
            return found[0]
        letter = said["letter"].upper()
        option = re.search(rf"<{letter}>([^<]*)</{letter}>", text)
        if said["text"] and not (option and _fold(option[1]) == _fold(said["text"])):
            return found[0]
        return f"<output>{letter}</output>"

    return re.sub(r"<output>([^<]*)</output>", reduce, text)


def _fold(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).rstrip(".。")


_ANSWER = re.compile(
    r"\s*(?:(?:正确)?答案(?:是|为)?|选择|选项|选|(?:the )?(?:correct )?answer(?: is)?|option)?\s*:?\s*"
    r"[(\[【]?(?P<letter>[A-Da-d])(?![A-Za-z0-9])[)\]】]?(?:项|选项)?\s*[.。、:,]?\s*(?P<text>.*?)\s*",
    re.DOTALL | re.IGNORECASE,
)


# In this order: a later repair may rely on what an earlier one has cleared away.
REPAIRS: dict[str, Callable[[str], str]] = {
    "code_fence": code_fence,
    "surrounding_text": surrounding_text,
    "bare_markup": bare_markup,
    "empty_adjustment": empty_adjustment,
    "missing_end_tags": missing_end_tags,
    "answer_letter": answer_letter,
}
