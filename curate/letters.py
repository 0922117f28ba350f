"""Option letters inside text: found where they surely name an option, never guessed.

A chain speaks of its options by letter (选项B, （B）, 答案是B, option B) and also of things whose names hold a letter
(DNA, 维生素C, B细胞, A股). When options change places, the first must follow and the second must stay. So every capital
A to D that stands alone has to be either a reference or part of a known name; one that is neither makes the whole text
`Unclear`, and its record keeps its order.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from msgspec import Struct
from msgspec.structs import replace

from schemas.record import LETTERS, Item, Letter, Options, Record

BREAK = "\0"
"""Stands between texts that are searched in one go; no reference reaches across it."""

_CAPITALS = "ABCDＡＢＣＤ"
_L = f"[{_CAPITALS}]"
# A letter beside another letter or a digit is part of a word.
_BEFORE = r"(?<![A-Za-z0-9Ａ-Ｚａ-ｚ０-９])"
_AFTER = r"(?![A-Za-z0-9Ａ-Ｚａ-ｚ０-９])"
_AND = r"(?:\s*[、，,/和与及或]\s*|\s+(?:and|or)\s+)"
_OPEN = r"[“\"「（(【\[*]*\s*"

LETTERS_TOGETHER = re.compile(rf"{_BEFORE}{_L}(?:{_AND}?{_L})*{_AFTER}")
"""One letter, or several: A、C和D, AB."""

SURE_LEAD = re.compile(rf"(?:选项|[Oo]ptions?|[Cc]hoices?)\s*{_OPEN}$")
LEAD = re.compile(
    r"(?:(?:答案|正确选项|正确的选项|[Aa]nswer)\s*(?:应该|应当|应)?(?:是|为|选|is)?\s*[:：]?"
    rf"|(?<![当入评竞候筛挑普海大人补改推精])选择?)\s*{_OPEN}$"
)
"""What leads to a reference, if END follows: such words could also begin a name (选C语言, 答案是D国)."""

END = re.compile(r"\s*(?:$|[\s\0，。；：、！？,.;:!?)）\]】」”\"’'<*]|选?项(?!目)|[是为最更较因而作正符])")
SURE_END = re.compile(
    r"\s*(?:[一二两三四]?个?选?项(?!目)|[一二两三四]者|均|都|(?:是|为)?(?:正确|错误)|不(?:正确|符合|成立)|不符)"
)
BRACKETS = frozenset(("（）", "()", "（)", "(）", "【】", "[]", "“”", "「」"))

NAME = re.compile(r"(?:[AＡ]\s*股|[BＢ]\s*(?:股|细胞|淋巴细胞)|[CＣ]\s*语言|[A-D]\s*轮融资)")
NAME_LEAD = re.compile(r"维生素\s*$")
"""Names of things that hold a letter. One that is missing costs a shuffle, never a wrong letter."""

ALL = re.compile(rf"A\s*(?:到|至|-|–|—|~|to)\s*D{_AFTER}")
"""All the options, whatever their order."""

UNSAFE = (
    re.compile(r"[选答](?:项|案(?:是|为)?)?\s*[:：]?\s*[（(]?[a-dａ-ｄ](?![A-Za-zａ-ｚ])"),
    re.compile(r"[oOcC](?:ption|hoice)s?\s*[:：]?\s*[（(]?[a-dａ-ｄ](?![A-Za-zａ-ｚ])"),
    re.compile(r"[aA]nswer(?: is)?\s*[:：]?\s*[（(]?[a-d](?![A-Za-z]|\s+[a-z])"),
    re.compile(r"[Ⓐ-Ⓓⓐ-ⓓ⒜-⒟🄐-🄓🅐-🅓🅰🅱𝐀-𝐃]"),
    re.compile(r"第\s*[一二三四1-4]\s*(?:个|项|选项)"),
    re.compile(r"[前后]\s*[一二两三2-3]\s*(?:个|项|选项|者)"),
    re.compile(r"最后一?(?:个|项)"),
    re.compile(r"选项(?:依次|分别|按顺序)"),
    re.compile(
        r"[fFsStTlL](?:irst|econd|hird|ourth|ast|ormer|atter)\s+(?:[oO]ptions?|[cC]hoices?|one|two|three)(?![a-z])"
    ),
)
"""Options named in a way that no capital shows: in lower case, in a circle, by place."""

POSITIONAL = re.compile(
    r"以上|上述|前述|前[一二两三]|后[一二两三]|其他选项|其余选项|都对|都不对|皆是|皆非"
    r"|(?i:\b(?:all|none|both|neither|any|either) of (?:the )?(?:above|these|them|options)\b|\babove\b|\bpreceding\b)"
)
"""An option that speaks of the others, whose place is part of its meaning."""


class Unclear(Struct, frozen=True):
    """Why the letters of a text cannot be told with certainty."""

    reason: str


class Reference(Struct, frozen=True):
    """A letter that names an option, and where it stands."""

    at: int
    letter: Letter


def letter_of(character: str) -> Letter:
    """Return the letter that a capital A to D of either width stands for."""
    return LETTERS[_CAPITALS.index(character) % 4]


def find(text: str, options: Options = ("", "", "", "")) -> tuple[Reference, ...] | Unclear:
    """Return the references in reading order; Unclear if some letter may or may not be one.

    An option's text that the chain repeats is no reference, whatever letters it holds; `B. text of option B` is one.
    """
    if any(unsafe.search(text) for unsafe in UNSAFE):
        return Unclear("an option named without its letter")
    shielded: list[tuple[int, int]] | None = None
    references: list[Reference] = []
    done = 0
    for found in LETTERS_TOGETHER.finditer(text):
        start, end = found.span()
        if start < done:
            continue
        if shielded is None:
            shielded = _repeated(text, options)
        if any(first <= start and end <= last for first, last in shielded):
            continue
        together = found[0]
        if together.isalpha() and len(set(together)) < len(together):
            continue  # BBC: a word
        everything = ALL.match(text, start)
        if everything:
            done = everything.end()
            continue
        lead = text[max(0, start - 16) : start]
        if NAME_LEAD.search(lead):
            continue
        sure = _is_reference(text, start, end, lead, options)
        if NAME.match(text, end - 1):
            if len(together) == 1 and not sure:
                continue
            sure = False
        if not sure:
            return Unclear(f"'{text[max(0, start - 6) : end + 6]}' may or may not name an option")
        references += [Reference(start + at, letter_of(c)) for at, c in enumerate(together) if c in _CAPITALS]
    return tuple(references)


def _is_reference(text: str, start: int, end: int, lead: str, options: Options) -> bool:
    if SURE_LEAD.search(lead) or SURE_END.match(text, end) or text[start - 1 : start] + text[end : end + 1] in BRACKETS:
        return True
    if LEAD.search(lead) and END.match(text, end):
        return True
    option = options[LETTERS.index(letter_of(text[start]))] if end - start == 1 else ""
    if not option:
        return False
    after = re.compile(r"\s*[.．、:：)）]\s*[“「]?").match(text, end)
    return after is not None and text.startswith(option, after.end())


def _repeated(text: str, options: Options) -> list[tuple[int, int]]:
    """Return where an option's text that holds a capital A to D stands in the text."""
    spans: list[tuple[int, int]] = []
    for option in options:
        if len(option) > 1 and re.search(_L, option):
            at = text.find(option)
            while at >= 0:
                spans.append((at, at + len(option)))
                at = text.find(option, at + 1)
    return spans


def rewrite(
    text: str, moved: Mapping[Letter, Letter], before: Options = ("", "", "", ""), after: Options = ("", "", "", "")
) -> str | Unclear:
    """Return the text with every reference led from the old letter to the new; Unclear rather than a guess.

    What is returned can be led back: its references are those of the text, in the same places.
    """
    references = find(text, before)
    if isinstance(references, Unclear):
        return references
    characters = list(text)
    for reference in references:
        wide = _CAPITALS.index(characters[reference.at]) // 4
        characters[reference.at] = _CAPITALS[4 * wide + LETTERS.index(moved[reference.letter])]
    rewritten = "".join(characters)
    again = find(rewritten, after)
    if isinstance(again, Unclear) or [r.at for r in again] != [r.at for r in references]:
        return Unclear("a letter that would read otherwise after the change")
    return rewritten


def rewrite_all(
    texts: Sequence[str], moved: Mapping[Letter, Letter], before: Options, after: Options
) -> tuple[str, ...] | Unclear:
    """Return the texts of one chain rewritten together; Unclear if any of them is."""
    rewritten = rewrite(BREAK.join(texts), moved, before, after)
    if isinstance(rewritten, Unclear):
        return rewritten
    # A letter takes the place of a letter: the texts keep their lengths.
    ends = accumulate((len(text) + 1 for text in texts), initial=0)
    return tuple(rewritten[start : end - 1] for start, end in pairwise(ends))


def chain_texts(item: Item) -> tuple[str, ...]:
    """Return the texts of a chain in reading order."""
    adjustment = () if item.adjustment is None else (item.adjustment,)
    return (item.think, *item.steps, item.reflection, *adjustment)


def with_chain(record: Record, texts: Sequence[str]) -> Record:
    """Return the record with the texts of its chain replaced, as many as `chain_texts` gives."""
    think, *rest = texts
    steps, (reflection, *adjustment) = rest[: len(record.steps)], rest[len(record.steps) :]
    return replace(
        record, think=think, steps=tuple(steps), reflection=reflection, adjustment=adjustment[0] if adjustment else None
    )


def speaks_of_others(options: str) -> bool:
    """Whether an option, or one of several with BREAK between, depends on its place: 以上都是, A和B, none of these."""
    return bool(POSITIONAL.search(options)) or find(options) != ()


CONCLUSION = re.compile(
    r"(?P<no>不是?|非|并非|错误|排除)?(?:(?:正确)?答案|正确选项|正确的选项|(?:应|故|应该|应当|因此|所以|可)选择?|[Aa]nswer)"
    r"\s*(?:应该|应当|应)?(?P<not>不)?(?:是|为|选|is)?\s*[:：]?\s*(?:选项|option)?\s*"
    rf"{_OPEN}{_BEFORE}(?P<letter>{_L}){_AFTER}(?={END.pattern})"
)


def conclude(text: str, right: Letter, wrong: Letter) -> str:
    """Return the text with each conclusion that names the right letter led to the wrong one, all else as it is."""
    characters = list(text)
    for found in CONCLUSION.finditer(text):
        if letter_of(found["letter"]) == right:
            wide = _CAPITALS.index(found["letter"]) // 4
            characters[found.start("letter")] = _CAPITALS[4 * wide + LETTERS.index(wrong)]
    return "".join(characters)


def concluded(text: str) -> set[Letter]:
    """Return the letters that a text concludes with in so many words: 故选B, 答案是（B）, the answer is B."""
    if not re.search(_L, text):
        return set()
    return {
        letter_of(found["letter"])
        for found in CONCLUSION.finditer(text)
        if found["no"] is None and found["not"] is None
    }
