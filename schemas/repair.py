"""Repairs: what may be mended in a reply without guessing, each named and recorded.

The asking loop and curation share them, so that no reply is paid for a second time that curation would have mended.
Every repair keeps the text: it moves, spells or escapes markup, it never drops a character of a field. What could be
read in two ways stays broken: two documents, tags that cross, a text that was cut off, steps whose numbers go back.

REPAIRS at the foot is the list of them, in the order in which they are tried; each takes time linear in the reply.
Two reasons for a refusal are said here alone:

    several_documents  the root element begins more than once, and which one counts would be a guess
    only_thoughts      a reasoning model's thoughts, and nothing after them
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from schemas.chain import ESCAPES, ITEM, MARKS, MAX_BYTES, Form, Malformed, Shape, parse_as
from schemas.record import LETTERS, Item, Row

MAX_REPLY = 8 * MAX_BYTES
"""Characters of a reply with all that stands around the document, such as thoughts; no repair looks at a longer one."""
OPTIONAL = ("think", "reflection", "adjustment")
CLOSES = {
    "think": "options",
    "reasoning": "options",
    "reflection": "reasoning",
    "adjustment": "reasoning",
    "output": "reasoning",
}
"""Element to the container that has ended by the time it begins."""
ONLY_THOUGHTS = Malformed(
    "only_thoughts", "the thoughts end with the reply, or never; think less, then write the document"
)

T = TypeVar("T", bound=Row)


def mend(text: str) -> tuple[Item, tuple[str, ...]] | Malformed:
    """Return the item and the names of the repairs it took, none for a strict reply.

    Malformed, with what is wrong in the reply as it came but for thoughts before it, if it stays broken.
    """
    return mend_as(ITEM, text)


def mend_as(form: Form[T], text: str) -> tuple[T, tuple[str, ...]] | Malformed:
    """Return what a reply of this form holds, in the same way."""
    strict = parse_as(form, text)
    if not isinstance(strict, Malformed):
        return strict, ()
    fault = strict
    applied: list[str] = []
    for name, repair in REPAIRS.items():
        if len(text) > (MAX_REPLY if name in AROUND else MAX_BYTES):
            break
        if "<!" in text:
            if "<!DOCTYPE" in text or "<!ENTITY" in text:
                break  # what a declaration would have made of the text is not for a repair to say
            if "<![CDATA[" in text and name not in AROUND:
                break
        if repair is missing_end_tags and fault.reason == "wrong_shape":
            continue  # a well-formed document lacks none
        mended = repair(text, form)
        if mended == text:
            continue
        text = mended
        applied.append(name)
        found = parse_as(form, text)
        if not isinstance(found, Malformed):
            return found, tuple(applied)
        fault = found
        if repair is thoughts:
            strict = ONLY_THOUGHTS if found.reason == "empty" else found
    begun = text.count(f"<{form.root}>")
    if begun > 1:
        return Malformed("several_documents", f"<{form.root}> begins {begun} times; write one document")
    return strict


def escaped_document(text: str, shape: Shape) -> str:
    """Undo one escaping of a document whose every tag came as &lt;tag&gt;."""
    if "<" in text or f"&lt;{shape.root}&gt;" not in text:
        return text
    for reference, character in _ESCAPES:
        text = text.replace(reference, character)
    return text


def thoughts(text: str, shape: Shape) -> str:
    """Drop the thoughts that a reasoning model puts before the document."""
    return split_thoughts(text, shape.root)[1]


def code_fence(text: str, shape: Shape) -> str:
    """Take the document out of the Markdown code fence around it; a fence inside the document is text."""
    span = _span(text, shape) if "```" in text or "~~~" in text else None
    if not span or not _FENCE.fullmatch(text[: span[0]].rstrip().rpartition("\n")[2].strip()):
        return text
    start, end = span
    after = text[end:].lstrip()
    if after and not after.startswith(("```", "~~~")):
        return text[start:]
    return text[start:end].rstrip().removesuffix("```").rstrip()


def surrounding_text(text: str, shape: Shape) -> str:
    """Drop the words before the start tag of the root and after its end tag; none where tags are among them."""
    span = _span(text, shape)
    return text[span[0] : span[1]] if span else text


def cdata(text: str, shape: Shape) -> str:
    """Write each CDATA section as the text it stands for, so that nothing in it is taken for a tag.

    Not where a `]]>` is left over: one of the sections may have ended before its text did.
    """
    if "<![CDATA[" not in text:
        return text
    end = text.rfind("]]>") + 3  # each section that begins before it is closed, so no search is in vain
    written = _CDATA.sub(lambda found: _escape(found[1]), text[:end]) + text[end:]
    return text if "]]>" in written else written


def tag_spelling(text: str, shape: Shape) -> str:
    """Spell ＜question＞, <Question> and < question > as <question>, where the document lacks just that tag.

    Where the tags of a name are in pairs without them, they are text.
    """
    loose = _loose(shape)
    if not any(odd[0] != "<" or loose.match(text, odd.start()) for odd in _ODD.finditer(text)):
        return text
    tags = list(loose.finditer(text))
    right, odd = Counter[str](), Counter[str]()
    for tag in tags:
        (right if _is_right(tag) else odd)[_canonical(tag)] += 1
    taken = set[str]()
    for name in (*shape.containers, *shape.texts):
        start, end = f"<{name}", f"</{name}"
        paired = right[start] == right[end] > 0
        if not paired and right[start] + odd[start] == right[end] + odd[end]:
            taken |= {start, end}

    def spell(tag: re.Match[str]) -> str:
        begin = _canonical(tag)
        return tag[0] if _is_right(tag) or begin not in taken else begin + tag["more"].translate(_SIGNS) + ">"

    return loose.sub(spell, text)


def step_numbers(text: str, shape: Shape) -> str:
    """Leave out the numbers of the steps where they are off but never go back: the order is that of the text."""
    tags = _STEP.findall(text)
    if tags == [f' n="{place}"' for place in range(1, len(tags) + 1)]:
        return text
    numbers = [int(found["number"]) for tag in tags if (found := _NUMBER.fullmatch(tag))]
    if len(numbers) < len(tags) or numbers != sorted(numbers):
        return text
    right = numbers == [*range(1, len(tags) + 1)] and all(map(_STEP_NUMBER.match, tags))
    return text if right else _STEP.sub("<step>", text)


def attributes(text: str, shape: Shape) -> str:
    """Drop the attributes of the known tags, which hold no text; a namespace stays, and stays wrong."""

    def bare(tag: re.Match[str]) -> str:
        number = _STEP_NUMBER.search(tag["attributes"]) if tag["name"] == "step" else None
        return f"<{tag['name']}{number[0] if number else ''}{tag['empty']}>"

    return _attributes(shape).sub(bare, text)


def bare_markup(text: str, shape: Shape) -> str:
    """Escape each & that begins no XML reference, and each < and ]]> that belong to no known markup."""
    pieces = _markup(shape).split(text)
    texts = "\0".join(pieces[::2])
    if "<!--" in texts or "\0" in text:
        return text  # a comment that never ends: what is text and what is not would be a guess; no XML holds a NUL
    pieces[::2] = _escape(texts).split("\0")
    return "".join(pieces)


def empty_part(text: str, shape: Shape) -> str:
    """Take out a think, reflection or adjustment without text: the element may be absent, but not blank."""
    return _EMPTY.sub(r"\1", text) if "adjustment" in shape.texts else text


def missing_end_tags(text: str, shape: Shape) -> str:
    """Close a text element where the next tag begins, and the containers where they must end."""
    if _END.search(text):
        return text  # the end tag that is missing may be this one, with its name misspelt
    out: list[str] = []
    open_: str | None = None
    last = 0
    ended = {name for name in shape.containers if f"</{name}>" in text}
    for tag in _tag_or_comment(shape).finditer(text):
        out.append(text[last : tag.start()])
        last = tag.end()
        if tag.lastgroup == "end":
            name = tag["end"]
            if open_ and name != open_:
                out.append(f"</{open_}>")
            if name in shape.texts and name != open_:
                return text  # an end tag without its start: what it should close would be a guess
            open_ = None
        elif tag.lastgroup == "start":
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
    if open_ and open_ != "output":
        return text  # cut off in the middle of a text
    if open_:
        out.append(f"</{open_}>")
    if shape.root not in ended:
        out.append(f"</{shape.root}>")
    return "".join(out)


def answer_letter(text: str, shape: Shape) -> str:
    """Reduce （Ｂ）, 选项B or `B. its text` to the letter; an answer with words of its own is left alone."""
    if "output" not in shape.texts:
        return text
    options = {letter: fold(option) for letter, option in _OPTION.findall(text)}

    def reduce(found: re.Match[str]) -> str:
        said = _ANSWER.fullmatch(unicodedata.normalize("NFKC", found[1]).strip(" \t\r\n*"))
        if not said:
            return found[0]
        letter, words = said["letter"].upper(), said["words"].strip()
        # `A、C` names two letters, even where the text of option A is C.
        if words and (words in LETTERS or options.get(letter) != fold(words)):
            return found[0]
        return f"<output>{letter}</output>"

    return _OUTPUT.sub(reduce, text)


def mark_digit(text: str, shape: Shape) -> str:
    """Reduce ４, 4分, 4.0 or 4/5 to the mark; one between two marks or out of another number is left alone."""

    def reduce(found: re.Match[str]) -> str:
        said = _MARK.fullmatch(unicodedata.normalize("NFKC", found[2]).strip())
        return f"<{found[1]}>{said[1]}</{found[1]}>" if said else found[0]

    return _MARKED.sub(reduce, text) if set(MARKS) <= set(shape.texts) else text


def split_thoughts(reply: str, root: str = "item") -> tuple[str, str]:
    """Return the thoughts that a reasoning model puts before a document, their tags among them, and the rest.

    The two together are the reply: without thoughts it is all rest, and all thoughts where they never end. They end
    with the </think> that only plain words part from the last document: drafts of it count for nothing, nor does the
    <think> that an item has of its own. Where theirs was left to the prompt, the document must be the only one.
    """
    first, last = reply.find(f"<{root}>"), reply.rfind(f"<{root}>")
    begun = reply.lstrip().startswith("<think>")
    end = reply.rfind("</think>", 0, last) if last > 0 else -1
    if end < 0 or "<" in reply[end + len("</think>") : last] or not (begun or first == last):
        if not begun:
            return "", reply
        end = reply.find("</think>", 0, first if first > 0 else len(reply))
    end = end + len("</think>") if end >= 0 else len(reply)
    return reply[:end], reply[end:]


def fold(text: str) -> str:
    """Return a text as a reader compares it: one width, no spaces, no closing stop."""
    return "".join(unicodedata.normalize("NFKC", text).split()).rstrip(".。")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("]]>", "]]&gt;")


def _span(text: str, shape: Shape) -> tuple[int, int] | None:
    """Return where the only document begins and ends, its end tag or the end of the text.

    None if it is not the only one, or tags stand outside it.
    """
    tags = [f"<{shape.root}>", f"</{shape.root}>"]
    for place, tag in enumerate(tags):
        if tag not in text:
            spelled = {odd[0] for odd in _loose(shape).finditer(text) if _canonical(odd) == tag[:-1]}
            if len(spelled) > 1:
                return None
            tags[place] = next(iter(spelled), tag)
    start, last = text.find(tags[0]), text.rfind(tags[1])
    if start < 0 or text.find(tags[0], start + 1) >= 0:
        return None
    end = last + len(tags[1]) if last > start else len(text)
    outside = text[:start], text[end:]
    return None if any("<think>" in part or _loose(shape).search(part) for part in outside) else (start, end)


def _is_right(tag: re.Match[str]) -> bool:
    return tag[0].startswith(_canonical(tag)) and tag[0].endswith(">")


def _canonical(tag: re.Match[str]) -> str:
    """Return how the tag begins when spelled right, such as `</item`."""
    name = unicodedata.normalize("NFKC", tag["name"])
    return f"<{'/' if tag['slash'] else ''}{name if name in LETTERS else name.lower()}"


def _any_spelling(name: str) -> str:
    """Return a pattern of a name in either case and width; but <b> is bold type, not the second option."""
    cases = [name] if name in LETTERS else [name, name.upper()]
    both = [*cases, *(case.translate(_WIDE) for case in cases)]
    return "".join(f"[{''.join(letters)}]" for letters in zip(*both, strict=True))


def _names(shape: Shape) -> str:
    return "|".join((*shape.containers, *shape.texts))


@cache
def _loose(shape: Shape) -> re.Pattern[str]:
    """Return what finds the tags of a document however they are spelled."""
    names = "|".join(map(_any_spelling, (*shape.containers, *shape.texts)))
    return re.compile(
        rf"[<＜]\s{{0,9}}(?P<slash>[/／]?)\s{{0,9}}(?P<name>{names})(?P<more>(?:\s[^<>＜＞]*(?<![/／]))?)[>＞]"
    )


@cache
def _tag(shape: Shape) -> str:
    names = _names(shape)
    return rf"""</(?P<end>{names})\s*>|<(?P<start>{names})(?:\s+n\s*=\s*(?:"[0-9]{{1,3}}"|'[0-9]{{1,3}}'))?\s*>"""


@cache
def _tag_or_comment(shape: Shape) -> re.Pattern[str]:
    return re.compile(f"{_COMMENT}|{_tag(shape)}")


@cache
def _markup(shape: Shape) -> re.Pattern[str]:
    """Return what splits a document at its markup, so that the rest is text."""
    empty = rf"|<(?:{'|'.join(OPTIONAL)})\s*/>" if "adjustment" in shape.texts else ""
    tags = re.sub(r"\(\?P<\w+>", "(?:", _tag(shape))
    return re.compile(f"({tags}|{_REFERENCE}|{_COMMENT}{empty})")


@cache
def _attributes(shape: Shape) -> re.Pattern[str]:
    one = r"""\s+(?!xmlns)[^\W\d][\w.-]*\s*=\s*(?:"[^"<>&]*"|'[^'<>&]*')"""
    return re.compile(rf"<(?!{_STEP_RIGHT})(?P<name>{_names(shape)})(?P<attributes>(?:{one})+)\s*(?P<empty>/?)>")


_WIDE = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
_SIGNS = {code + 0xFEE0: code for code in range(ord("!"), ord("~") + 1)} | {ord("“"): '"', ord("”"): '"'}
_ESCAPES = (("&#34;", '"'), ("&#39;", "'"), ("&#x27;", "'"), *ESCAPES)
_FENCE = re.compile(r"(?:```|~~~)\s?[\w+-]*")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_COMMENT = r"<!--[^-]*+(?:-[^-]++)*+-->"
_REFERENCE = r"&(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});"
_EMPTY = re.compile(
    rf"(</\w+>\s*)(?:<({'|'.join(OPTIONAL)})(?:\s*/>|>\s*</\2>)\s*)+"
)  # after an element, not in a text
# Where a tag that is not spelled right begins or ends, and some text. The search is for one of three characters.
_ODD = re.compile(r"[<＜＞](?:(?<!<)|(?!/?(?:[a-z_]+|[A-D])[\s/>]))")
_END = re.compile(r"(?:&lt;|＜)[/／]\s?\w")
_STEP = re.compile(r"<step((?:\s[^<>]*)?)>")
_NUMBER = re.compile(r"""\s(?:n|no|num|number|id|index)\s?=\s?["'“”]?(?P<number>\d{1,3})["'“”]?\s?""")
_STEP_RIGHT = 'step n="[0-9]{1,3}">'
_STEP_NUMBER = re.compile(r"""\sn\s*=\s*(["'])[0-9]{1,3}\1""")
_OUTPUT = re.compile(r"<output>([^<]*)</output>")
_OPTION = re.compile(r"<([ABCD])>([^<]*)</\1>")
_ANSWER = re.compile(
    r"(?:(?:正确|正確)?答案(?:是|为|為)?|选择|選擇|选项|選項|选|選|(?:the )?(?:correct )?answer(?: is)?|option)?"
    r"\s{0,9}:?\s{0,9}[(\[【*\"“]{0,4}(?P<letter>[A-D])(?![A-Z0-9])[)\]】*\"”]{0,4}(?:选项|選項|项|項)?\s{0,9}"
    r"[.。、:,]?(?P<words>.*)",
    re.DOTALL | re.IGNORECASE,
)
_MARKED = re.compile(rf"<({'|'.join(MARKS)})>([^<]*)</\1>")
_MARK = re.compile(r"([1-5])(?:\.0)?\s{0,9}(?:/\s{0,9}5)?\s{0,9}分?")

# In this order: first what stands around the document, then its tags, its text and the tags it lacks; a later repair
# relies on what an earlier one has cleared away.
REPAIRS: dict[str, Callable[[str, Shape], str]] = {
    "escaped_document": escaped_document,
    "thoughts": thoughts,
    "code_fence": code_fence,
    "surrounding_text": surrounding_text,
    "cdata": cdata,
    "tag_spelling": tag_spelling,
    "step_numbers": step_numbers,
    "attributes": attributes,
    "bare_markup": bare_markup,
    "empty_part": empty_part,
    "missing_end_tags": missing_end_tags,
    "answer_letter": answer_letter,
    "mark_digit": mark_digit,
}
AROUND = ("escaped_document", "thoughts", "code_fence", "surrounding_text", "cdata")
"""Those that make it a document of known tags and text; the others need one, of at most MAX_BYTES."""
