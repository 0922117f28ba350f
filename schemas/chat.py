"""How a question becomes a chat for the solver, a cell one for the author, and an item the reply that is trained on."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from schemas.chain import render, write
from schemas.faults import Fault
from schemas.params import AuthorPrompt, ChatPrompt, Topic, Wording, load, nearest, topics
from schemas.record import LETTERS, Item, Message, Options, Variation

Cell = tuple[str, str, str]
"""Topic, difficulty and type, as slugs."""
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


# What the author is told: each of topic, difficulty and type as params.yaml names it.


class Words(Struct, frozen=True):
    """How params.yaml names the cells, and how the author is told of one."""

    prompt: AuthorPrompt
    topics: Mapping[str, Topic]
    difficulties: Mapping[str, Wording]
    types: Mapping[str, Wording]

    def of(self, cell: Cell) -> tuple[str, str, str]:
        """Return the names of a cell; Fault for a slug that is not in params.yaml."""
        known = (("topics", self.topics), ("difficulties", self.difficulties), ("types", self.types))
        for slug, (section, names) in zip(cell, known, strict=True):
            if slug not in names:
                raise Fault(f"params.yaml: {section}.{slug}: no such key; {nearest(slug, names, section)}")
        topic, difficulty, type_ = cell
        return self.topics[topic].name, self.difficulties[difficulty].name, self.types[type_].name


def words(path: Path | str = "params.yaml") -> Words:
    """Return how params.yaml names the cells, and how the author is told of one."""
    difficulties, types = (load(section, dict[str, Wording], path) for section in ("difficulties", "types"))
    return Words(load("prompts.author", AuthorPrompt, path), topics(path), difficulties, types)


def commission(prompt: AuthorPrompt, topic: str, difficulty: str, type: str) -> tuple[Message, ...]:
    """Return the messages that ask the author for a question of a cell."""
    return _told(prompt, prompt.write, topic, difficulty, type)


def variation(
    prompt: AuthorPrompt, topic: str, difficulty: str, type: str, item: Item, how: Variation
) -> tuple[Message, ...]:
    """Return the messages that ask the author for a variation of an item."""
    return _told(prompt, prompt.vary, topic, difficulty, type, item=write(item), variation=prompt.variations[how])


def improvement(
    prompt: AuthorPrompt, topic: str, difficulty: str, type: str, item: Item, feedback: str
) -> tuple[Message, ...]:
    """Return the messages that ask the author for an item improved by what was said of it."""
    return _told(prompt, prompt.improve, topic, difficulty, type, item=write(item), feedback=feedback)


def authored(item: Item, thinking: bool) -> Message:
    """Return the author's turn that writes an item.

    With thinking, the question and its solution go before it, as thoughts do in Qwen3: what is to be right is worked
    out before there are options. Without, a template that knows `enable_thinking` puts empty thoughts there by itself.
    """
    thoughts = "<think>\n" + "\n".join((item.question, *item.steps)) + "\n</think>\n\n" if thinking else ""
    return Message(role="assistant", content=thoughts + write(item))


def _told(prompt: AuthorPrompt, text: str, topic: str, difficulty: str, type: str, **more: str) -> tuple[Message, ...]:
    system = (Message(role="system", content=prompt.system),) if prompt.system else ()
    filled = text.format(topic=topic, difficulty=difficulty, type=type, **more)
    return (*system, Message(role="user", content=filled))
