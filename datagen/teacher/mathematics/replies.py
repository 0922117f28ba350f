"""What the embedded teacher replies about mathematics; a request about another topic goes to the fact sheets.

The lines that say what is asked for, requests and replies are those of `datagen.teacher.replies`, which this leaves as
it is: what it says is part of the name under which its answers are stored.
"""

import hashlib
import re
from collections.abc import Callable
from xml.sax.saxutils import escape

import msgspec
from msgspec import Struct

from datagen.teacher import replies
from datagen.teacher.mathematics import about
from datagen.teacher.mathematics.compose import TOPICS, compose
from datagen.teacher.replies import KINDS, Asked, Refusal, asked, spoiled
from datagen.teacher.vary import Wish
from schemas.chain import Malformed, parse, write
from schemas.faults import Fault
from schemas.record import LETTERS, Item, Options


class _Part(Struct):
    text: str = ""


class _Message(Struct):
    role: str
    content: str | list[_Part]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class _Call(Struct):
    model: str
    messages: list[_Message]
    seed: int = 0
    max_tokens: int | None = None
    stream: bool = False


def complete(body: bytes, *, spoil: bool = False) -> bytes | Refusal:
    """Return the completion JSON for a request's JSON, whatever its topic; `spoil` breaks the XML within."""
    try:
        call = msgspec.json.decode(body, type=_Call)
    except msgspec.DecodeError:
        return replies.complete(body)  # which says what is wrong
    first = next((message.text for message in call.messages if message.role == "user"), "")
    wanted = asked(first)
    if isinstance(wanted, Refusal) or wanted.topic not in TOPICS or call.stream:
        return replies.complete(body, spoil=spoil)
    try:
        content = REPLIES[wanted.kind](wanted, first, call.seed)
    except Fault as fault:
        return Refusal(400, fault.message)
    if spoil:
        content = spoiled(content)
    finish = "stop"
    if call.max_tokens is not None and len(content) > call.max_tokens:
        content, finish = content[: call.max_tokens], "length"
    prompt = sum(len(message.text) for message in call.messages)
    return msgspec.json.encode(
        {
            "id": "chatcmpl-" + hashlib.sha256(body).hexdigest()[:16],
            "object": "chat.completion",
            "created": 0,
            "model": call.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": len(content),
                "total_tokens": prompt + len(content),
            },
        }
    )


def _write(wanted: Asked, text: str, seed: int) -> str:
    return write(compose(wanted.topic, wanted.difficulty, wanted.type, seed, full=wanted.chain == "full"))


def _verify(wanted: Asked, text: str, seed: int) -> str:
    """Answer a question of which nothing but the options is shown."""
    item = about.answered(*_shown(text))
    steps = "".join(f'<step n="{n}">{escape(step)}</step>' for n, step in enumerate(item.steps, 1))
    return f"<answer>\n<reasoning>{steps}</reasoning>\n<output>{item.answer}</output>\n</answer>"


def _judge(wanted: Asked, text: str, seed: int) -> str:
    marks = msgspec.structs.asdict(about.judge(wanted.difficulty, _item(text)))
    lines = "\n".join(f"<{name}>{escape(str(mark))}</{name}>" for name, mark in marks.items())
    return f"<judgement>\n{lines}\n</judgement>"


def _improve(wanted: Asked, text: str, seed: int) -> str:
    return write(about.improve(_item(text), _feedback(text), full=wanted.chain == "full"))


def _vary(wanted: Asked, text: str, seed: int) -> str:
    full = wanted.chain == "full"
    wish = Wish(wanted.topic, wanted.difficulty, wanted.type, wanted.variation, seed, full)
    return write(about.vary(_item(text), wish))


def _contrast(wanted: Asked, text: str, seed: int) -> str:
    return write(about.contrast(_item(text), wanted.contrast, seed, full=wanted.chain == "full"))


def _item(text: str) -> Item:
    """The item that a message hands over."""
    found = _ITEM.search(text)
    if found is None:
        raise Fault("the first user message hands over no <item>")
    item = parse(found[0])
    if isinstance(item, Malformed):
        raise Fault(f"the item handed over cannot be read: {item.reason}: {item.detail}")
    return item


def _shown(text: str) -> tuple[str, Options]:
    """The question and the options that a message shows."""
    found = _QUESTION.search(text)
    if found is None:
        raise Fault("the first user message has no lines '问题：…' and 'A. …' to 'D. …'")
    stem, a, b, c, d = (part.strip() for part in found.groups())
    return stem, (a, b, c, d)


def _feedback(text: str) -> str:
    """What a message says of the item that it hands over."""
    found = _FEEDBACK.search(_ITEM.sub("", text))
    if found is None:
        raise Fault("the first user message has no line '意见：…'")
    return found[1]


_ITEM = re.compile(r"<item>.*?</item>", re.DOTALL)
_QUESTION = re.compile(
    r"^问题：(.+)\n" + "".join(rf"(?:.*\n)*?{letter}[.．、][ 　]*(.+)(?:\n|\Z)" for letter in LETTERS), re.MULTILINE
)
_FEEDBACK = re.compile(r"^意见：(.+)$", re.MULTILINE)

REPLIES: dict[str, Callable[[Asked, str, int], str]] = {
    "write": _write,
    "verify": _verify,
    "judge": _judge,
    "improve": _improve,
    "vary": _vary,
    "contrast": _contrast,
    "translate": KINDS["translate"].reply,
}
