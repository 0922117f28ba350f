"""What the embedded teacher replies about mathematics; a request about another topic goes to the fact sheets.

The lines that say what is asked for, requests and replies are those of `datagen.teacher.replies`, which this leaves as
it is: what it says is part of the name under which its answers are stored.
"""

import hashlib
from collections.abc import Callable

import msgspec
from msgspec import Struct

from datagen.teacher import replies
from datagen.teacher.mathematics.compose import TOPICS, compose
from datagen.teacher.replies import Asked, Refusal, asked, spoiled
from schemas.chain import write
from schemas.faults import Fault


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


REPLIES: dict[str, Callable[[Asked, str, int], str]] = {
    "write": _write,
}
