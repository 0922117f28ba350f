"""What the teacher is told: the texts of `templates/`, filled in."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from msgspec import Struct

from schemas import chain
from schemas.chain import Malformed
from schemas.params import Topic, Wording
from schemas.record import LETTERS, Flaw, Item, Language, Message, Variation

EMPTY = "（空）"  # endpoints refuse an empty assistant turn


class Cell(Struct, frozen=True):
    """Where in the grid a question belongs: each a slug and what params.yaml says of it."""

    topic: tuple[str, Topic]
    difficulty: tuple[str, Wording]
    type: tuple[str, Wording]


def write(
    topic: tuple[str, Topic], difficulty: tuple[str, Wording], type: tuple[str, Wording], *, full: bool
) -> tuple[Message, ...]:
    """Return the messages that ask for one question of a cell; each argument is a slug and what params.yaml says of it.

    The lines 主题, 难度, 题型 and 推理链 end in the slug: the embedded teacher reads them.
    """
    user = _template("write").render(
        topic_slug=topic[0],
        topic=topic[1],
        difficulty_slug=difficulty[0],
        difficulty=difficulty[1],
        type_slug=type[0],
        type=type[1],
        full=full,
    )
    return _system(), Message(role="user", content=user)


# What is asked about a question that is already there. The marker lines, 任务 the first of them, again end in a slug;
# an item that is handed over follows them, the first XML of the message.


def verify(cell: Cell, item: Item) -> tuple[Message, ...]:
    """Return the message that puts a question without its answer."""
    return _user("verify", cell, item, options=tuple(zip(LETTERS, item.options, strict=True)))


def judge(cell: Cell, item: Item) -> tuple[Message, ...]:
    """Return the message that asks for five marks and feedback."""
    return _user("judge", cell, item)


def improve(cell: Cell, item: Item, feedback: str, *, full: bool) -> tuple[Message, ...]:
    """Return the messages that ask for an item rewritten by a judge's feedback, its answer kept."""
    return _system(), *_user("improve", cell, item, feedback=" ".join(feedback.split()), full=full)


def vary(cell: Cell, item: Item, variation: Variation, *, full: bool) -> tuple[Message, ...]:
    """Return the messages that ask for one variation of an item."""
    return _system(), *_user("vary", cell, item, variation=variation, full=full)


def contrast(cell: Cell, item: Item, flaw: Flaw, *, full: bool) -> tuple[Message, ...]:
    """Return the message that asks for a flawed chain to the same question, which the system text would forbid."""
    return _user("contrast", cell, item, flaw=flaw, full=full)


def translate(cell: Cell, item: Item, to: Language) -> tuple[Message, ...]:
    """Return the message that asks for an item in another language."""
    return _user("translate", cell, item, to=to)


def reask(messages: tuple[Message, ...], reply: str, fault: Malformed, root: str) -> tuple[Message, ...]:
    """Return the conversation with the bad reply in it, and after it what was wrong and which document to write."""
    again = _template("reask").render(reason=fault.reason, detail=fault.detail, root=root)
    return (
        *messages,
        Message(role="assistant", content=reply if reply.strip() else EMPTY),
        Message(role="user", content=again),
    )


def _system() -> Message:
    return Message(role="system", content=_template("system").render())


def _user(name: str, cell: Cell, item: Item, **more: object) -> tuple[Message, ...]:
    text = _template(name).render(cell=cell, item=item, write=chain.write, **more)
    return (Message(role="user", content=text),)


@cache
def _template(name: str) -> Template:
    folder = FileSystemLoader(Path(__file__).with_name("templates"))
    return Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).get_template(
        f"{name}.j2"
    )
