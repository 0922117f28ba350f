"""What the teacher is told: the texts of `templates/`, filled in."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from schemas.chain import Malformed
from schemas.params import Topic, Wording
from schemas.record import Message

EMPTY = "（空）"  # endpoints refuse an empty assistant turn


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
    return Message(role="system", content=_template("system").render()), Message(role="user", content=user)


def reask(messages: tuple[Message, ...], reply: str, fault: Malformed) -> tuple[Message, ...]:
    """Return the conversation with the bad reply in it, and after it what was wrong and what to do."""
    again = _template("reask").render(reason=fault.reason, detail=fault.detail)
    return (
        *messages,
        Message(role="assistant", content=reply if reply.strip() else EMPTY),
        Message(role="user", content=again),
    )


@cache
def _template(name: str) -> Template:
    folder = FileSystemLoader(Path(__file__).with_name("templates"))
    return Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).get_template(
        f"{name}.j2"
    )
