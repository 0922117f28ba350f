"""What a question must be to stay in the bank: one function a check, what a person needs to know or None.

To add a check, write its function, its line in CHECKS and its line here; its key is the reason code under which rejects
are counted. What makes a reply unreadable (`not_xml`, `wrong_shape`, …) is told by `schemas.chain`.

    part_missing          a teacher's chain without first thoughts or reflection; a user's own may do without
    unprintable           a control, private or replacement character, as a wrong decoding leaves it
    question_too_short    the stem says nothing
    question_too_long     the stem does not fit a prompt
    option_too_long       an option is an essay
    options_not_distinct  two options read the same
    answer_stands_out     the right option is so much longer than the others that its length tells it
    answer_given_away     the stem names the right option, by its letter or its text, and no other
    too_many_steps        the reasoning runs on
    steps_out_of_order    the steps number themselves, and a number is missing, twice there or out of place
    chain_too_short       a chain that is there for form's sake
    chain_too_long        the chain does not fit a training example
    not_chinese           too few of the letters are Chinese, or stem or chain is prose in Latin letters
    too_chinese           too many of the letters are Chinese, in a bank of another language
    wrong_script          characters of the other Chinese script: simplified 国 and traditional 國
    repetitive            the chain loops, or says at length again what it said
    not_neutral           the words of an advocate
    reasoning_disagrees   the chain comes to another option than the output
    algebra_refutes       by computer algebra another option is right, or none, or several; or a step states 3*4=13
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Annotated, Literal

from msgspec import Meta, Struct

from curate.letters import BREAK, chain_texts, letter_of
from schemas.mathematics import false_equality, right
from schemas.params import Count, Params, Positive, Share
from schemas.record import LETTERS, Letter, Options, Record

Script = Literal["zh_hans", "zh_hant"]
IMPORTED = "import "
"""How the teacher's name of an imported row begins."""


class ValidateParams(Params, frozen=True):
    """Limits that a record is held to. A width is counted in Chinese characters; a Latin letter is a third of one."""

    min_question: Positive
    """Characters."""
    max_question: Positive
    max_option: Positive
    max_answer_ratio: Annotated[float, Meta(ge=1)]
    """Width of the right option to that of the longest other."""
    min_answer_width: Positive
    """Up to this width an option does not stand out, whatever the others."""
    min_given_away: Positive
    """Width from which the right option's text is looked for in the stem: a shorter one is a common word."""
    max_steps: Positive
    min_chain: Count
    """Characters of a chain with a `think`; a user's own questions may do without."""
    max_chain: Positive
    """Characters of the whole chain."""
    min_chinese: Share
    """Of the letters of question, options and chain; 0 for a bank in English."""
    max_chinese: Share
    """1 for a bank in Chinese."""
    script: Script | None
    """None where both may stand."""
    max_other_script: Share
    """Of the characters that differ between the scripts, in question, options or chain."""
    max_repeated: Share
    """Of the steps, or of the characters of a part of the chain."""
    max_absolutes: Count
    """How many words of `absolutes` a chain may hold."""
    absolutes: tuple[str, ...]
    """In lower case; in a bank that need not be in Chinese, capitals count as the same."""


class Read(Struct, frozen=True, gc=False):
    """A record as the checks read it: what several of them need, made once."""

    record: Record
    chain: str
    """The words of the chain without its markup, a line a part."""
    text: str
    """Question, options and chain."""
    rare: bool
    """It holds an unprintable character, or one that only the other Chinese script has: two checks look closer."""


def reject_reason(record: Record, params: ValidateParams) -> tuple[str, str] | None:
    """Return the code and the detail of the first check that finds something, or None for a record that may stay."""
    read = reading(record, params.script)
    for code, check in CHECKS.items():
        detail = check(read, params)
        if detail is not None:
            return code, detail
    return None


def reading(record: Record, script: Script | None) -> Read:
    """Return the record as the checks read it, for a bank in a script."""
    chain = "\n".join(chain_texts(record))
    text = "\n".join((record.question, *record.options, chain))
    if text.isascii():
        rare = len(text.encode().translate(None, _CONTROLS)) < len(text)
    else:
        rare = _COMMON[script].fullmatch(text) is None
    return Read(record, chain, text, rare)


def width(text: str) -> float:
    """Return how much a text says, counted in Chinese characters: a Latin letter is a third, as in UTF-8."""
    return len(text.encode()) / 3


def chain_is_whole(read: Read, params: ValidateParams) -> str | None:
    """A teacher's chain has its think and its reflection; one of a user's own questions need not."""
    record = read.record
    if (record.think and record.reflection) or record.teacher.startswith(IMPORTED):
        return None
    return f"no <{'reflection' if record.think else 'think'}>"


def characters_are_printable(read: Read, params: ValidateParams) -> str | None:
    """No control, private or replacement character: �, as a wrong decoding leaves it, or a stray NUL."""
    found = _UNPRINTABLE.search(read.text) if read.rare else None
    return f"the character U+{ord(found[0]):04X}" if found else None


def question_is_long_enough(read: Read, params: ValidateParams) -> str | None:
    """The question says something."""
    size = len(read.record.question)
    return f"{size} characters, at least {params.min_question}" if size < params.min_question else None


def question_is_short_enough(read: Read, params: ValidateParams) -> str | None:
    """The question fits a prompt."""
    size = len(read.record.question)
    return f"{size} characters, at most {params.max_question}" if size > params.max_question else None


def options_are_short_enough(read: Read, params: ValidateParams) -> str | None:
    """No option is an essay."""
    size = max(map(len, read.record.options))
    return f"an option of {size} characters, at most {params.max_option}" if size > params.max_option else None


def options_are_distinct(read: Read, params: ValidateParams) -> str | None:
    """No two options read the same, whatever their width, spaces or closing stop."""
    text = BREAK.join(read.record.options)
    for wide, narrow in _WIDE:  # so often there that NFKC, slow if anything changes, is spared most of its work
        text = text.replace(wide, narrow)
    text = "".join(unicodedata.normalize("NFKC", text).split())
    options = [option.rstrip(".。") for option in text.split(BREAK)]
    return f"'{_twice(options)}' stands twice" if len(set(options)) < len(options) else None


def answer_does_not_stand_out(read: Read, params: ValidateParams) -> str | None:
    """The right option is not told by its length.

    That choices be of about equal length is one of the guidelines of Haladyna, Downing and Rodriguez (2002).
    """
    record = read.record
    answer = width(record.text(record.answer))
    if answer <= params.min_answer_width:
        return None
    longest = max(width(record.text(letter)) for letter in LETTERS if letter != record.answer)
    if answer <= params.max_answer_ratio * longest:
        return None
    return f"{answer / longest:.1f} times as long as the longest other option, at most {params.max_answer_ratio}"


def answer_is_not_given_away(read: Read, params: ValidateParams) -> str | None:
    """The stem does not name the right option alone.

    Its text counts only in the sentence that asks: a passage to be read, or a claim to be judged, holds the answer by
    its nature. So does a stem that names another option too.
    """
    record = read.record
    if _LETTER.search(record.question):
        told = [letter_of(letter) for letter in _AT_END.findall(record.question)]
        told += [said.letter for said in _conclusions(record.question, record.options) if said.sure]
        if record.answer in told:
            return f"the stem names the letter {record.answer}"
    answer = record.text(record.answer)
    if width(answer) < params.min_given_away:
        return None
    stem, answer = record.question.lower(), answer.lower()
    if answer not in stem or answer not in _ASKED.split(stem.rstrip(_CLOSING))[-1]:
        return None
    if any(other.lower() in stem for other in record.options if other.lower() != answer):
        return None
    return f"the stem says '{record.text(record.answer)}'"


def steps_are_few_enough(read: Read, params: ValidateParams) -> str | None:
    """The reasoning does not run on."""
    size = len(read.record.steps)
    return f"{size} steps, at most {params.max_steps}" if size > params.max_steps else None


def steps_are_in_order(read: Read, params: ValidateParams) -> str | None:
    """Steps that number themselves, most of them in one style, count from 1 on.

    A step without a number may be counted or not: 1. 2. 综上 and 1. 2. … 4. are both in order.
    """
    steps = read.record.steps
    if len(steps) < 2 or 2 * len([step for step in steps if step[0] in _NUMBER_STARTS]) <= len(steps):
        return None
    numbers = [_number(step) for step in steps]
    style = next((number[0] for number in numbers if number), None)
    numbered = [(place, number[1]) for place, number in enumerate(numbers, 1) if number and number[0] == style]
    found = [number for _, number in numbered]
    if 2 * len(found) <= len(steps) or found == [*range(1, len(found) + 1)] or all(a == b for a, b in numbered):
        return None
    return f"the steps count {', '.join(map(str, found))}"


def chain_is_long_enough(read: Read, params: ValidateParams) -> str | None:
    """The chain reasons, if it sets out to."""
    size = len(read.chain)
    return f"{size} characters, at least {params.min_chain}" if read.record.think and size < params.min_chain else None


def chain_is_short_enough(read: Read, params: ValidateParams) -> str | None:
    """The chain fits a training example."""
    size = len(read.chain)
    return f"{size} characters, at most {params.max_chain}" if size > params.max_chain else None


def is_chinese(read: Read, params: ValidateParams) -> str | None:
    """Enough of the letters are Chinese, and neither stem nor chain is prose without any.

    A few words or a formula are none: 质能方程 E = mc² may be asked for by itself, and options may be names.
    """
    if not params.min_chinese:
        return None
    # Half of the text tells for most: is it enough even if all other characters are letters? Counted by the high bytes
    # of UTF-16, which tell the blocks apart: a tenth of the time that a pattern over characters takes.
    high = read.text[: len(read.text) // 2].encode("utf-16-le")[1::2]
    if len(high) - len(high.translate(None, _HAN_BLOCKS)) < params.min_chinese * len(read.text):
        share = _chinese(read.text)
        if share < params.min_chinese:
            return f"{share:.2f} of the letters, at least {params.min_chinese}"
    if not _HAN.search(read.record.question) and _PROSE.search(read.record.question):
        return "none in the question"
    if not _HAN.search(read.chain) and _PROSE.search(read.chain):
        return "none in the chain"
    return None


def is_not_chinese(read: Read, params: ValidateParams) -> str | None:
    """Not too many of the letters are Chinese."""
    if params.max_chinese == 1:
        return None
    share = _chinese(read.text)
    return f"{share:.2f} of the letters, at most {params.max_chinese}" if share > params.max_chinese else None


def is_in_its_script(read: Read, params: ValidateParams) -> str | None:
    """Question, options and chain are each in the bank's script, but for a name or a quotation."""
    if params.script is None or not read.rare:
        return None
    own, other = ONLY[params.script], ONLY[_OTHER[params.script]]
    record = read.record
    for name, part in (("question", record.question), ("options", "\n".join(record.options)), ("chain", read.chain)):
        found = other.findall(part)
        share = len(found) / (len(found) + len(own.findall(part))) if found else 0.0
        if share > params.max_other_script:
            return f"{name}: {share:.2f} of {_OTHER[params.script]}, {''.join(dict.fromkeys(found))[:10]}"
    return None


def is_not_repetitive(read: Read, params: ValidateParams) -> str | None:
    """No step stands twice too often, no passage stands again at length, nothing loops.

    After the repetition rules of MassiveText (Rae et al. 2021, table A1), with its 30 % of duplicate lines and
    paragraphs: a line is a step; a passage is as long as it happens to be, since Chinese has no words to count. A list
    that shares a template (A项…，不符合题意；B项…，不符合题意) repeats short passages only, and a quoted question or
    option is no repetition.
    """
    record = read.record
    if len(set(record.steps)) < len(record.steps):
        long = [step for step in record.steps if len(step) >= _MIN_STEP]
        if len(long) - len(set(long)) > params.max_repeated * len(record.steps):
            return f"the step '{_short(_twice(long))}' stands again"
    if len(read.chain) < _MIN_PART:
        return None
    for part in (record.think, "\n".join(record.steps), record.reflection, record.adjustment or ""):
        if len(part) >= _MIN_PART:
            for run, again in _repeats(part, params.max_repeated):
                if again:
                    return f"'{_short(run)}' again and again"
                if len(run) > params.max_repeated * len(part):
                    for quoted in sorted((record.question, *record.options), key=len, reverse=True):
                        run = run.replace(quoted, "")
                    if len(run) > params.max_repeated * len(part):
                        return f"{len(run)} of {len(part)} characters stand twice: '{_short(run)}'"
    return None


def is_neutral(read: Read, params: ValidateParams) -> str | None:
    """The chain does without the words of an advocate, but for those that it quotes or denies (不能说绝对正确)."""
    chain, words = read.chain, params.absolutes
    if _are_chinese(words):  # without capitals, so that most chains need not be put in lower case
        words = tuple([word for word in words if word in chain])
        if not words:
            return None
    if not params.min_chinese:
        chain = chain.lower()
    found = [word for word in words if word in chain and _meant(word, chain)]
    return "、".join(found) if len(found) > params.max_absolutes else None


def chain_supports_answer(read: Read, params: ValidateParams) -> str | None:
    """The chain comes to the output's option, by its letter or by its text.

    The last text that concludes decides, and only what it says outright: nothing supposed (若…则选C), denied or taken
    back later (故选C。不对), and of two conclusions in one text the last, if it is drawn (故, therefore).
    """
    record = read.record
    later = ""
    for text in filter(None, (record.adjustment, record.reflection, *reversed(record.steps))):
        if record.answer in text[-_LAST:] and text.endswith(_ENDINGS[record.answer]):
            return None
        found = _conclusions(text, record.options, fits=text is record.steps[-1])
        if not found:
            later += text
            continue
        end = found[-1]
        two = len({conclusion.letter for conclusion in found}) > 1
        if (
            end.letter == record.answer
            or not end.sure
            or (two and not end.drawn)
            or (end.fits and _NEGATIVE.search(record.question))
            or _TAKEN_BACK.search(text[end.at :] + later)
            or (text != record.adjustment and record.adjustment and not _UNCHANGED.search(record.adjustment))
        ):
            return None
        return f"the chain concludes {end.letter}, the answer is {record.answer}"
    return None


def algebra_agrees(read: Read, params: ValidateParams) -> str | None:
    """Computer algebra, where it can read the question, finds the answer and no other option right.

    Nor does a step state an equality between numbers that does not hold.
    """
    if not _RECKONED.search(read.text):
        return None
    record = read.record
    for number, step in enumerate(record.steps, 1):
        false = false_equality(step)
        if false:
            return f"step {number} states {_short(false)}"
    found = right(record.question, record.options)
    if found is None or found == tuple(letter == record.answer for letter in LETTERS):
        return None
    letters = [letter for letter, is_right in zip(LETTERS, found, strict=True) if is_right]
    return f"finds {', '.join(letters) or 'no option'} right, the answer is {record.answer}"


def looks(records: Iterable[Record]) -> Counter[str]:
    """Return the counts from which `figures` tells how far the right options give themselves away; counts add up.

    records; longest (twelfths: of k options that share the greatest width, each is the longest by 12 / k);
    answer_bytes and other_bytes (UTF-8: three a Chinese character); all_or_none.
    """
    seen = longest = answer_bytes = all_bytes = all_or_none = 0
    for record in records:
        sizes = [len(option.encode()) for option in record.options]
        right = LETTERS.index(record.answer)
        answer = sizes[right]
        seen += 1
        longest += 12 // sizes.count(answer) if answer == max(sizes) else 0
        answer_bytes += answer
        all_bytes += sum(sizes)
        all_or_none += _ALL_OR_NONE.search(record.options[right]) is not None
    return Counter(
        records=seen,
        longest=longest,
        answer_bytes=answer_bytes,
        other_bytes=all_bytes - answer_bytes,
        all_or_none=all_or_none,
    )


def figures(counts: Counter[str]) -> dict[str, float]:
    """Return of `looks`: the share of records whose right option is the longest (0.25 if length tells nothing), its
    mean width to that of the others, and how many right options are all or none of the above.
    """
    return {
        "answer_longest": round(counts["longest"] / 12 / counts["records"], 4) if counts["records"] else 0.0,
        "answer_ratio": round(3 * counts["answer_bytes"] / counts["other_bytes"], 4) if counts["records"] else 0.0,
        "answer_all_or_none": counts["all_or_none"],
    }


class Conclusion(Struct, frozen=True, order=True):
    """A place where a text names an option as the answer."""

    at: int
    """Behind the name."""
    letter: Letter
    fits: bool
    """Named as what fits: the answer only if the stem asks for that, and not for what is wrong."""
    sure: bool
    """Said outright: not supposed, denied, asked or told of others."""
    drawn: bool
    """From what precedes: 故选B, therefore B."""


def _conclusions(text: str, options: Options, fits: bool = False) -> list[Conclusion]:
    """Return the conclusions of a text in order; with `fits`, those of its last sentence that name what fits too."""
    found: list[Conclusion] = []
    if not _may_conclude(text):
        return found
    for at, sentence in _sentences(text):
        if not _may_conclude(sentence):
            continue
        named = [
            (m.start(), m.end("letter"), letter_of(m["letter"]), False)
            for words, patterns in _CHOSEN
            if any(map(sentence.__contains__, words))
            for pattern in patterns
            for m in pattern.finditer(sentence)
        ]
        for lead in _TEXT_LEAD.finditer(sentence):
            for letter, option in zip(LETTERS, options, strict=True):
                end = lead.end() + len(option)
                if sentence.startswith(option, lead.end()) and _TEXT_END.match(sentence, end):
                    named.append((lead.start(), end, letter, False))
        if fits and at + len(sentence) == len(text) and not named:
            named = [
                (m.start(), m.end("letter"), letter_of(m["letter"]), True) for p in _FITS for m in p.finditer(sentence)
            ]
        for start, end, letter, fit in named:
            clause = max(map(sentence.rfind, "，,；;：:", repeat(0), repeat(start))) + 1
            sure = not (_SUPPOSED.search(sentence) or _DENIED_CLAUSE.search(sentence, clause, end))
            drawn = _DRAWN.search(sentence, max(0, start - 12), end) is not None
            found.append(Conclusion(at + end, letter, fit, sure, drawn))
    return sorted(found)


def _may_conclude(text: str) -> bool:
    return _LETTER.search(text) is not None or "答案" in text or "nswer" in text


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yield the sentences of a text, each with where it begins."""
    at = 0
    for match in _SENTENCE_END.finditer(text):
        yield at, text[at : match.end()]
        at = match.end()
    if at < len(text):
        yield at, text[at:]


def _chinese(text: str) -> float:
    """Return the share of the letters that are Chinese."""
    chinese = sum(map(len, _HAN.findall(text)))
    letters = chinese + sum(map(len, _OTHER_LETTERS.findall(text)))
    return chinese / letters if letters else 0.0


@lru_cache(maxsize=1024)
def _cuts(size: int, share: float) -> tuple[Callable[[str], tuple[str, ...]], tuple[int, ...]]:
    """Return what cuts the pieces out of a text of a size, all in one call, and where to go on looking for each."""
    stride = max(16, int(share * size) - _PIECE)
    starts = (*range(0, size - _PIECE, stride), max(0, size - _MIN_LOOP))
    return itemgetter(*(slice(start, start + _PIECE) for start in starts)), tuple(start + 1 for start in starts)


def _repeats(text: str, share: float) -> Iterator[tuple[str, bool]]:
    """Yield passages with letters that stand again later, and whether they loop: three times in a row or more.

    Found by looking for short pieces cut at even distances: every passage of 24 characters that is longer than a share
    of the text, and every loop at its end. The text has _MIN_PART characters or more.
    """
    cut, behind = _cuts(len(text), share)
    found = [*map(text.find, cut(text), behind)]
    if max(found) < 0:
        return  # as in most texts
    for start, again in zip((at - 1 for at in behind), found, strict=True):
        if again < 0:
            continue
        period, first, end = again - start, start, again + _PIECE
        while end < len(text) and text[end] == text[end - period]:
            end += 1
        while first and text[first - 1] == text[first - 1 + period]:
            first -= 1
        run = text[first : end - period]
        if any(map(str.isalpha, run)):
            yield run, len(run) >= 2 * period and len(run) + period >= _MIN_LOOP


@cache
def _are_chinese(words: tuple[str, ...]) -> bool:
    return all(map(_HAN.fullmatch, words))


def _meant(word: str, text: str) -> bool:
    """Whether the word stands in the text somewhere neither in quotation marks nor after a denial."""
    for found in re.finditer(re.escape(word), text):
        before, after = text[: found.start()], text[found.end() :]
        quoted = any(before.rfind(opened) > before.rfind(closed) and closed in after for opened, closed in _QUOTES)
        straight = before.rpartition("\n")[2].count('"') % 2
        if not (quoted or straight or _DENIED.search(before[-24:])):
            return True
    return False


def _number(step: str) -> tuple[str, int] | None:
    """Return the style and the number of a step that begins with one."""
    found = _NUMBER.match(step)
    if not found:
        return None
    before, number, after = found["before"].strip().lower(), found["number"], found["after"].strip()
    if not (after or number in _CIRCLED or before[:1] in ("步", "s")):
        return None
    if number.isdecimal():
        return before + after, int(number)
    if number in _CIRCLED:
        return "①", _CIRCLED.index(number) + 1
    return before + "一" + after, _NUMERALS.index(number) + 1


def _twice(texts: Iterable[str]) -> str:
    counts = Counter(texts)
    return next(text for text in counts if counts[text] > 1)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 30 else text[:29] + "…"


_UNPRINTABLES = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff\ufffd-\uffff"
_UNPRINTABLE = re.compile(f"[{_UNPRINTABLES}]")
_CONTROLS = "".join(filter(_UNPRINTABLE.match, map(chr, range(128)))).encode()

_WIDE = (("，", ","), ("：", ":"), ("（", "("), ("）", ")"))
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+")
_HAN_BLOCKS = bytes((*range(0x34, 0x4D), *range(0x4E, 0xA0), 0xF9, 0xFA))
_OTHER_LETTERS = re.compile(r"[A-Za-z\u00c0-\u024fЀ-ӿ\u3040-\u30ff\uac00-\ud7af]+")
_PROSE = re.compile(r"[A-Za-z]{2,}(?:,? [A-Za-z]{2,}){3}")


def _level_one(codec: str, rows: Iterable[int], cells: Iterable[int]) -> str:
    """Return the frequent characters of a national standard: its first rows."""
    cells = tuple(cells)
    return bytes(byte for row in rows for cell in cells for byte in (row, cell)).decode(codec, "ignore")


def _only(frequent: str, codec: str) -> frozenset[str]:
    """Return those that the other script's standard leaves out."""
    return frozenset(c for c in frequent if _HAN.match(c) and not c.encode(codec, "ignore"))


# GB 2312 is the standard of simplified, Big5 of traditional characters. What stands in both (后 里 面 干 台) is right
# in either script; what only one of them knows marks it. Hong Kong writes the exceptions too.
SIMPLIFIED = _only(_level_one("gb2312", range(0xB0, 0xD8), range(0xA1, 0xFF)), "big5") - frozenset(
    "傈兑卧叁囱墒悦户温着硷税脱葱蜕酞酶"
)
TRADITIONAL = _only(_level_one("big5", range(0xA4, 0xC7), (*range(0x40, 0x7F), *range(0xA1, 0xFF))), "gb2312")
ONLY: dict[Script, re.Pattern[str]] = {
    "zh_hans": re.compile(f"[{''.join(sorted(SIMPLIFIED))}]"),
    "zh_hant": re.compile(f"[{''.join(sorted(TRADITIONAL))}]"),
}
_OTHER: dict[Script, Script] = {"zh_hans": "zh_hant", "zh_hant": "zh_hans"}
# Matched from end to end, which takes half as long as a search for what is not in it.
_COMMON: dict[Script | None, re.Pattern[str]] = {
    None: re.compile(f"[^{_UNPRINTABLES}]*+"),
    "zh_hans": re.compile(f"[^{_UNPRINTABLES}{''.join(sorted(TRADITIONAL))}]*+"),
    "zh_hant": re.compile(f"[^{_UNPRINTABLES}{''.join(sorted(SIMPLIFIED))}]*+"),
}
"""A text in a script without unprintable characters and those that only the other script has."""

_MIN_STEP = 8
"""Characters of a step that may not stand twice: 不符合题意。 may."""
_MIN_PART = 80
"""Characters of a part of a chain that has room to repeat itself."""
_MIN_LOOP = 36
"""Characters that all turns of a loop come to."""
_PIECE = 8

_QUOTES = (("“", "”"), ("‘", "’"), ("「", "」"), ("『", "』"), ("《", "》"))
_DENIED = re.compile(
    r"(?:不(?!但|仅|僅|只)|没|沒|無(?!論)|无(?!论)|非(?!常)|未|别|勿|避免|慎|not\b|n't|\bno\b|never|without|avoid)"
    r"[^，。；,.;！!？?\n]{0,12}$"
)

_NUMERALS = ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫"
_NUMBER_STARTS = frozenset("0123456789一二三四五六七八九十步第sS（(【" + _CIRCLED)
_NUMBER = re.compile(
    r"(?P<before>\s*(?:步骤|步驟|[Ss]tep|第)?\s*[（(【]?\s*)(?P<number>\d{1,2}|十[一二]|[一二三四五六七八九十①-⑫])"
    r"(?P<after>\s*[步.．、:：)）】，,]?)(?!\s?[\d一二三四五六七八九十])"
)

_LETTER = re.compile("[A-DＡ-Ｄ]")
_L = r"(?<![A-Za-z0-9Ａ-Ｚａ-ｚ])(?P<letter>[A-DＡ-Ｄ])(?![A-Za-z0-9Ａ-Ｚａ-ｚ])"
_OPEN = r"\s*(?:选项|選項|[Oo]ption|[Cc]hoice)?[“\"「『（(【\[*_\s]*"
_CLOSE = r"[”\"」』）)】\]*_]*\s*"
# Not 选A、B, nor 选C语言.
_THEN = (
    r"(?!\s*[、/和与及或與]\s*[A-DＡ-Ｄ])"
    rf"(?={_CLOSE}(?:$|[，,。.；;！!：:…（(\s]|[选選]?[项項](?!目)|[是为為因而]))"
)
_THEN_EN = rf"(?={_CLOSE}(?:$|[.,;:!(\n—–-]|because\b|since\b))"
_IS = r"\s*(?:应该|应当|應該|應當|应|應|只能)?\s*(?:是|为|為|选|選|即)?\s*[:：]?"
_RIGHT = r"(?:正确|正確|恰当|恰當|合适|合適|符合题意|符合題意|符合要求|符合条件|符合條件)"
_SO = r"(?:因此|所以|故|综上(?:所述)?|綜上(?:所述)?|可见|可見|由此可知|因而)"
_SO_EN = r"(?:[Tt]herefore|[Tt]hus|[Hh]ence|[Ss]o)"
_CHOSEN = (
    (
        ("答案", "选", "選"),
        (
            re.compile(rf"(?:答案[】\]]?|{_RIGHT}的?[选選][项項]){_IS}{_OPEN}{_L}{_THEN}"),
            re.compile(
                r"(?:^|[，,：:\s故应應可答]|应该|应当|應該|應當|因此|所以|因而|综上|綜上|本题|本題|只能|最[终終后後])"
                rf"\s*[选選][择擇]?\s*[:：]?{_OPEN}{_L}{_THEN}"
            ),
            re.compile(
                rf"{_L}{_CLOSE}(?:[选選]?[项項])?\s*(?:才?[是为為])?\s*(?:(?:正[确確]|本[题題]|最佳)答案|[当當应應][选選])"
            ),
        ),
    ),
    (
        ("nswer", "orrect", "right", "best", "hoose", "elect"),
        (
            re.compile(
                r"(?:[Aa]nswer\s*(?:(?:is|must be|should be)\b|[:：])|[Cc]orrect (?:option|choice) is|\b[Cc]hoose"
                r"|\b[Ss]elect)"
                rf"\s*(?:therefore|thus|clearly)?\s*[:：]?{_OPEN}{_L}{_THEN_EN}"
            ),
            re.compile(
                rf"{_L}{_CLOSE}\s+is (?:therefore |thus )?the (?:correct|right|best) (?:answer|option|choice)\b"
            ),
        ),
    ),
)
"""What says outright which option is the answer, behind words one of which it holds: the conclusion, unless its clause
denies it."""
_FITS = (
    re.compile(rf"{_RIGHT}的(?:一[项項])?[是为為]{_OPEN}{_L}{_THEN}"),
    re.compile(
        rf"{_SO}[，,]?\s*(?:只有)?{_OPEN}{_L}{_CLOSE}(?:[选選]?[项項])?\s*[是为為最]*\s*{_RIGHT}的?(?=\s*(?:$|[。.，,；;！!]))"
    ),
    re.compile(rf"{_SO_EN},? (?:only )?{_OPEN}{_L}{_CLOSE} is (?:correct|right|true)(?=\s*(?:$|[.,;!]))"),
    re.compile(rf"(?:[是为為即：:]|\bis\b)[^，,。；;（(]*[（(]\s*{_L}\s*[)）]\s*[。.]?\s*$"),
)
"""What says which option fits: the conclusion in the last sentence of the last step, if the stem asks for what fits."""
_TEXT_LEAD = re.compile(
    r"(?:答案(?:应该|应当|應該|應當|应|應)?(?:[是为為]|[:：])|[Aa]nswer\s*(?:is\s*:?|[:：]))\s*[“\"「『]?\s*"
)
_TEXT_END = re.compile(r"[”\"」』]?\s*(?:$|[。.，,；;！!（(])")
_SENTENCE_END = re.compile(r"[。！？!?；;\n]|\.(?=\s)")
_SUPPOSED = re.compile(
    r"若|如果|假如|假设|假設|倘|有人|容易|以为|以為|很多|许多|許多|一些|部分|误选|誤選|误认|誤認|[吗嗎]"
    r"|\b(?:[Ii]f|[Uu]nless|[Ss]ome|[Mm]any|people|someone|might|would|[Ss]uppose)\b|[？?]\s*$"
)
_DENIED_CLAUSE = re.compile(
    r"[不非未没沒无無错錯误誤否或]|排除|干扰|干擾|原先|起初|初步|看似|似乎|可能"
    r"|n't\b|\b(?:not|no|never|or|wrong|incorrect|false|except|might|may|could|[Ii]nitial\w*|[Aa]t first|seem\w*)\b"
)
_DRAWN = re.compile(rf"{_SO}|最[终終]|更正|改|{_SO_EN}|[Ff]inal")
_TAKEN_BACK = re.compile(
    r"不[对對是]|有[误誤]|更正|改[为為选選]|[应應][为為是改]|等等|而是|[并並]非|[实實]际上|實際上"
    r"|(?<!无需)(?<!無需)(?<!不需)(?<!不必)(?<!没有)(?<!沒有)修正"
    r"|\b(?:[Ww]ait|[Aa]ctually|[Ii]nstead|[Cc]orrection|mistaken?|[Rr]ather|revised?)\b"
)
_UNCHANGED = re.compile(
    r"^[无無]|[无無](?:[需须須]|修|[调調]|[变變])|不(?:需|必|用|[变變])|[没沒]有(?:需要|必要|修|[调調]|[变變])|[维維]持|保持"
    r"|^[Nn]one\b|\b[Nn]o (?:adjust|change|correct|revis)|unchanged|not (?:needed|necessary)"
)
_NEGATIVE = re.compile(r"[不非错錯误誤除]|无关|無關|(?i:\b(?:not|except|incorrect|false|least|wrong|untrue)\b|n't)")
_ENDINGS = {
    letter: (
        *(
            f"{lead}{letter}{end}"
            for lead in ("（", "选", "選", "答案是", "答案为", "答案為", "答案：", "nswer is ", "nswer: ", "option ")
            for end in (("）", "）。") if lead == "（" else ("", "。", "."))
        ),
        f"选项{letter}正确。",
        f"選項{letter}正確。",
        f"ption {letter} is correct.",
    )
    for letter in LETTERS
}
"""How a chain most often ends well: looked at first, since it is cheap."""
_LAST = 16
"""Characters at the end that hold the letter of each of them."""

_AT_END = re.compile(r"[（(]\s*([A-DＡ-Ｄ])\s*[)）]\s*[。.？?]?\s*$")
_ASKED = re.compile(r"[。！!？?；;\n]|\.\s")
_CLOSING = '。.？?！!…_（）()”"」』'

_RECKONED = re.compile(r"[=＝+＋×÷^²³√!/$\\]")
"""A sign of a formula, which a question or its chain holds if anything in it can be worked out."""

_ALL_OR_NONE = re.compile(
    r"^(?:以上|上述)(?:选项|選項|各项|各項|说法|說法|答案)?[都均皆全]|^[都均皆]不?[对對是正]"
    r"|(?i:\b(?:all|none) of (?:the )?(?:above|these|them)\b)"
)

Check = Callable[[Read, ValidateParams], str | None]

# In this order: the first that finds something names the reason.
CHECKS: dict[str, Check] = {
    "part_missing": chain_is_whole,
    "unprintable": characters_are_printable,
    "question_too_short": question_is_long_enough,
    "question_too_long": question_is_short_enough,
    "option_too_long": options_are_short_enough,
    "options_not_distinct": options_are_distinct,
    "too_many_steps": steps_are_few_enough,
    "chain_too_short": chain_is_long_enough,
    "chain_too_long": chain_is_short_enough,
    "not_chinese": is_chinese,
    "too_chinese": is_not_chinese,
    "wrong_script": is_in_its_script,
    "answer_given_away": answer_is_not_given_away,
    "answer_stands_out": answer_does_not_stand_out,
    "steps_out_of_order": steps_are_in_order,
    "repetitive": is_not_repetitive,
    "not_neutral": is_neutral,
    "reasoning_disagrees": chain_supports_answer,
    "algebra_refutes": algebra_agrees,
}
