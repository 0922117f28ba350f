"""What a question must be to stay in the bank: one function a check, the reason to drop it or None.

To add a check, write its function and its line in CHECKS; its key is the reason code under which rejects are counted.
"""

import re
import unicodedata
from collections.abc import Callable

from curate.letters import chain_texts, concluded
from schemas.params import Count, Params, Positive, Share
from schemas.record import Item, Record


class ValidateParams(Params, frozen=True):
    """Limits that a record is held to."""

    min_question: Positive
    """Characters."""
    max_question: Positive
    max_option: Positive
    max_steps: Positive
    max_chain: Positive
    """Characters of the whole chain."""
    min_chinese: Share
    """Of the letters of question and chain; 0 for a bank in English."""
    max_absolutes: Count
    """How many words of `absolutes` a chain may hold."""
    absolutes: tuple[str, ...]


def question_is_long_enough(record: Record, params: ValidateParams) -> str | None:
    """The question says something."""
    size = len(record.question)
    return f"{size} characters, at least {params.min_question}" if size < params.min_question else None


def question_is_short_enough(record: Record, params: ValidateParams) -> str | None:
    """The question fits a prompt."""
    size = len(record.question)
    return f"{size} characters, at most {params.max_question}" if size > params.max_question else None


def options_are_short_enough(record: Record, params: ValidateParams) -> str | None:
    """No option is an essay."""
    size = max(map(len, record.options))
    return f"an option of {size} characters, at most {params.max_option}" if size > params.max_option else None


def options_are_distinct(record: Record, params: ValidateParams) -> str | None:
    """No two options read the same, whatever their width, spaces or closing stop."""
    folded = [plain(option) for option in record.options]
    return f"'{_twice(folded)}' stands twice" if len(set(folded)) < len(folded) else None


def steps_are_few_enough(record: Record, params: ValidateParams) -> str | None:
    """The reasoning does not run on."""
    return f"{len(record.steps)} steps, at most {params.max_steps}" if len(record.steps) > params.max_steps else None


def chain_is_short_enough(record: Record, params: ValidateParams) -> str | None:
    """The chain fits a training example."""
    size = len(chain_text(record))
    return f"{size} characters, at most {params.max_chain}" if size > params.max_chain else None


def characters_are_printable(record: Record, params: ValidateParams) -> str | None:
    """No control, private or replacement character: �, as a wrong decoding leaves it, or a stray NUL."""
    found = _UNPRINTABLE.search("\n".join((record.question, *record.options, chain_text(record))))
    return f"the character U+{ord(found[0]):04X}" if found else None


def is_chinese(record: Record, params: ValidateParams) -> str | None:
    """Enough of the letters are Chinese."""
    text = record.question + chain_text(record)
    chinese = sum(map(len, _CHINESE.findall(text)))
    letters = chinese + sum(map(len, _OTHER.findall(text)))
    share = chinese / letters if letters else 0.0
    return f"{share:.2f} of the letters, at least {params.min_chinese}" if share < params.min_chinese else None


def is_neutral(record: Record, params: ValidateParams) -> str | None:
    """The chain does without the words of an advocate."""
    text = chain_text(record)
    found = [word for word in params.absolutes if word in text]
    return "、".join(found) if len(found) > params.max_absolutes else None


def chain_supports_answer(record: Record, params: ValidateParams) -> str | None:
    """The last letter concluded with in so many words is the answer; a chain that names none, or two, is not judged."""
    for text in (record.adjustment or "", record.reflection, *reversed(record.steps)):
        letters = concluded(text)
        if letters:
            said = "".join(sorted(letters))
            return (
                f"the chain concludes {said}, the answer is {record.answer}"
                if letters.isdisjoint(record.answer)
                else None
            )
    return None


def plain(text: str) -> str:
    """Return a text as a reader compares it: one width, no spaces, no closing stop."""
    return "".join(unicodedata.normalize("NFKC", text).split()).rstrip(".。")


def chain_text(item: Item) -> str:
    """Return the words of a chain without its markup."""
    return "\n".join(chain_texts(item))


def _twice(texts: list[str]) -> str:
    return next(text for text in texts if texts.count(text) > 1)


_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+")
_OTHER = re.compile(r"[A-Za-z\u00c0-\u024fЀ-ӿ\u3040-\u30ff\uac00-\ud7af]+")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff\ufffd-\uffff]")

Check = Callable[[Record, ValidateParams], str | None]

# In this order: the first that finds something names the reason.
CHECKS: dict[str, Check] = {
    "unprintable": characters_are_printable,
    "question_too_short": question_is_long_enough,
    "question_too_long": question_is_short_enough,
    "option_too_long": options_are_short_enough,
    "options_not_distinct": options_are_distinct,
    "too_many_steps": steps_are_few_enough,
    "chain_too_long": chain_is_short_enough,
    "not_chinese": is_chinese,
    "not_neutral": is_neutral,
    "reasoning_disagrees": chain_supports_answer,
}
