"""How a question becomes a chat for the solver, and a chain the reply that is trained on."""

import re
from collections.abc import Callable
from functools import lru_cache

from schemas.chain import render
from schemas.params import ChatPrompt
from schemas.record import LETTERS, Item, Message, Options

Ask = Callable[[str, Options], tuple[Message, ...]]
"""From a question and its options to the messages that put it."""


def ask(prompt: ChatPrompt, question: str, options: Options) -> tuple[Message, ...]:
    """Return the system message, unless empty, and the user message that put one question."""
    return asking(prompt)(question, options)


@lru_cache
def asking(prompt: ChatPrompt) -> Ask:
    """Return what `ask` does with a prompt: for those who put many questions."""
    system = (Message(role="system", content=prompt.system),) if prompt.system else ()
    filled = _template(prompt).format

    def put(question: str, options: Options) -> tuple[Message, ...]:
        return (*system, Message(role="user", content=filled(question, *options).strip()))

    return put


def _template(prompt: ChatPrompt) -> str:
    """Return the user message with {0} for the question and {1} to {4} for the options: one pass in place of six."""
    lines = "\n".join(prompt.option.format(letter=letter, text=f"\0{n}") for n, letter in enumerate(LETTERS, 1))
    plain = prompt.user.format(question="\0" + "0", options=lines)
    return re.sub("\0([0-4])", r"{\1}", plain.replace("{", "{{").replace("}", "}}"))


def reply(item: Item, parts: tuple[str, ...]) -> Message:
    """Return the assistant's turn that answers an item; with no parts, the letter alone."""
    return Message(role="assistant", content=render(item, parts) if parts else item.answer)
