"""What can be asked for, and what is wrong with a reply: a judge for each kind of request, pure and cheap.

A reply must have the shape that was asked for, as it came or mended, and must do to the original item what the kind is
for; the item is read back from the request's own first user message. The reason codes are those of schemas/chain.py, of
schemas/repair.py and

    cut_short             the reply reached max_tokens
    part_missing          a think or reflection that was left out; only a user's own question may lack them
    options_not_distinct  two options read the same
    answer_changed        another letter, or the text of another option at the same letter
    answer_not_changed    a wrong chain that comes to the right answer
    question_changed      another question or other options, where only the chain was to be another
    chain_not_changed     the original's chain again
    not_improved          the original item again
    not_varied            the original stem again; with other parameters in the options, the original answer too
    not_translated        mostly in another language than the one asked for
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import Struct

from datagen.client import Reply
from datagen.grid import Request
from schemas.chain import ANSWER, ITEM, JUDGEMENT, Form, Malformed, parse
from schemas.record import LETTERS, Item, Row
from schemas.repair import ONLY_THOUGHTS, fold, mend_as

T = TypeVar("T", bound=Row)

CHINESE = 0.3  # share of an item's letters that are Chinese characters, from which it is written in Chinese

Verdict = tuple[str, ...] | Malformed
"""The repairs a reply needs, none for a strict one; Malformed if it is of no use."""

Judge = Callable[[Request, Reply], Verdict]
Check = Callable[[Request, Item, Item], Malformed | None]
"""What is wrong with an item made from the original: the request, the original, the item."""


class Kind(Struct, frozen=True):
    """A kind of request."""

    root: str
    """The root element of its reply."""
    judge: Judge


def original(request: Request) -> Item:
    """Return the item that a request hands over: the first in its first user message."""
    found = _ITEM.search(_first(request))
    item = parse(found[0]) if found else None
    assert isinstance(item, Item), f"a request of kind {request.kind} without an item"
    return item


def chinese(item: Item) -> float:
    """Return the share of Chinese characters among the letters of the question, its options and the chain."""
    text = "\n".join((item.question, *item.options, item.think, *item.steps, item.reflection))
    characters = sum(map(len, _CHINESE.findall(text)))
    return characters / (characters + sum(map(len, _LATIN.findall(text))) or 1)


def shaped(form: Form[T]) -> Judge:
    """Return the judge of a reply that needs no more than the right shape."""

    def judge(request: Request, reply: Reply) -> Verdict:
        found = _read(form, reply)
        return found if isinstance(found, Malformed) else found[1]

    return judge


def whole(request: Request, reply: Reply) -> Verdict:
    """Judge an item written from nothing: its chain must have every part that is asked for."""
    found = _read(ITEM, reply)
    if isinstance(found, Malformed):
        return found
    item, repairs = found
    return _lacks(item, ("think", "reflection")) or repairs


def made_from_original(*checks: Check) -> Judge:
    """Return the judge of an item made from the one in the request; the first check that finds something says what.

    The parts of the chain are checked first, for every kind.
    """

    def judge(request: Request, reply: Reply) -> Verdict:
        found = _read(ITEM, reply)
        if isinstance(found, Malformed):
            return found
        item, repairs = found
        before = original(request)
        return next((fault for check in (parts_are_kept, *checks) if (fault := check(request, before, item))), repairs)

    return judge


def parts_are_kept(request: Request, before: Item, item: Item) -> Malformed | None:
    """The chain has the parts that the original's has."""
    return _lacks(item, [part for part in ("think", "reflection") if getattr(before, part)])


def options_are_distinct(request: Request, before: Item, item: Item) -> Malformed | None:
    """No two options read the same."""
    if len({fold(option) for option in item.options}) == len(item.options):
        return None
    return Malformed("options_not_distinct", "two options read the same")


def answer_is_kept(request: Request, before: Item, item: Item) -> Malformed | None:
    """The letter is the same, and no other option's text has moved to it."""
    if item.answer != before.answer:
        return Malformed("answer_changed", f"the answer is {item.answer}; it must stay {before.answer}")
    at = LETTERS.index(before.answer)
    others = {fold(option) for place, option in enumerate(before.options) if place != at}
    if fold(item.options[at]) in others:
        return Malformed(
            "answer_changed", f"option {item.answer} now holds the text of another option; keep their order"
        )
    return None


def letter_is_kept(request: Request, before: Item, item: Item) -> Malformed | None:
    """The letter is the same; the text is another language's."""
    if item.answer == before.answer:
        return None
    return Malformed("answer_changed", f"the answer is {item.answer}; it must stay {before.answer}")


def something_is_improved(request: Request, before: Item, item: Item) -> Malformed | None:
    """The item is not the original."""
    if item != before:
        return None
    return Malformed("not_improved", "the item is the same as before; rewrite it by the feedback")


def question_differs(request: Request, before: Item, item: Item) -> Malformed | None:
    """The stem is another, by more than spaces and punctuation; or the options are what changed, the right one too."""
    if _words(item.question) != _words(before.question):
        return None
    right, was = (_words(one.options[LETTERS.index(one.answer)]) for one in (item, before))
    if _marker(request, "变式") == "parameter_change" and right != was:
        return None
    return Malformed("not_varied", "the question is the same as before; write another one")


def question_is_kept(request: Request, before: Item, item: Item) -> Malformed | None:
    """The question and the options are the original's, but for spaces, width and the shape of quotation marks."""
    asked, kept = ([fold(text.translate(_QUOTES)) for text in (one.question, *one.options)] for one in (item, before))
    if asked == kept:
        return None
    return Malformed("question_changed", "the question or an option is not that of the item; copy them as they are")


def answer_suits_the_flaw(request: Request, before: Item, item: Item) -> Malformed | None:
    """A wrong chain comes to another answer, a biased one to the same."""
    if _marker(request, "对照") != "wrong":
        return letter_is_kept(request, before, item)
    if item.answer != before.answer:
        return None
    return Malformed("answer_not_changed", f"the answer is still {item.answer}; argue for another option")


def chain_differs(request: Request, before: Item, item: Item) -> Malformed | None:
    """The chain is not the original's."""
    if (item.think, item.steps) != (before.think, before.steps):
        return None
    return Malformed("chain_not_changed", "think and reasoning are the same as before; write the flawed chain")


def language_is_the_wanted(request: Request, before: Item, item: Item) -> Malformed | None:
    """The texts are Chinese where Chinese was asked for, and only there."""
    to = _marker(request, "目标")
    share = chinese(item)
    if (share >= CHINESE) is to.startswith("zh"):
        return None
    return Malformed("not_translated", f"{share:.0%} of the letters are Chinese; write the whole item in {to}")


def _read(form: Form[T], reply: Reply) -> tuple[T, tuple[str, ...]] | Malformed:
    found = mend_as(form, reply.content)
    if isinstance(found, Malformed) and reply.finish == "length":
        where, less = ("in its thoughts ", "think less") if found == ONLY_THOUGHTS else ("", "write it shorter")
        return Malformed("cut_short", f"the reply reached max_tokens {where}and was cut off; {less}")
    return found


def _lacks(item: Item, parts: Iterable[str]) -> Malformed | None:
    lacking = " and ".join(f"<{part}>" for part in parts if not getattr(item, part))
    return Malformed("part_missing", f"without {lacking}; write every part of the chain") if lacking else None


def _first(request: Request) -> str:
    return next(message.content for message in request.body.messages if message.role == "user")


def _marker(request: Request, word: str) -> str:
    """Return the slug of a marker line."""
    found = re.search(rf"^{word}：.*（([a-z_]+)）$", _first(request), re.MULTILINE)
    assert found, f"a request of kind {request.kind} without a line {word}"
    return found[1]


def _words(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())


_QUOTES = str.maketrans(dict.fromkeys("“”‘’「」『』\"'", ""))
_ITEM = re.compile(r"<item>.*?</item>", re.DOTALL)
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]+")

KINDS: dict[str, Kind] = {
    "write": Kind("item", whole),
    "verify": Kind("answer", shaped(ANSWER)),
    "judge": Kind("judgement", shaped(JUDGEMENT)),
    "improve": Kind("item", made_from_original(options_are_distinct, answer_is_kept, something_is_improved)),
    "vary": Kind("item", made_from_original(options_are_distinct, question_differs)),
    "contrast": Kind("item", made_from_original(question_is_kept, answer_suits_the_flaw, chain_differs)),
    "translate": Kind("item", made_from_original(options_are_distinct, letter_is_kept, language_is_the_wanted)),
}
