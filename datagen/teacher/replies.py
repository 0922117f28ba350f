"""What the embedded teacher replies: the JSON of a request in, the JSON of a completion out, the same for the same.

The first user message names the question by four lines that end in a slug: 主题：…（economy）, 难度：…（basic）,
题型：…（factual）, 推理链：…（short）. A conversation that goes on (a bad reply, then a complaint) gets the question it
was first asked for.
"""

import hashlib
import re
from typing import Literal

import msgspec
from msgspec import Struct

from datagen.teacher.compose import FORMS, compose
from schemas.chain import write
from schemas.faults import Fault


class _Message(Struct):
    role: Literal["system", "user", "assistant"]
    content: str


class _Call(Struct):
    """What is read of a request; other fields of the protocol are accepted and have no effect."""

    model: str
    messages: list[_Message]
    seed: int = 0
    max_tokens: int | None = None
    stream: bool = False


class Refusal(Struct, frozen=True):
    """An answer other than 200, to be sent as the protocol's error JSON."""

    status: int
    message: str
    code: str | None = None


class Asked(Struct, frozen=True):
    """The question that a first user message names."""

    topic: str
    difficulty: str
    type: str
    chain: str


MARKERS = {"topic": "主题", "difficulty": "难度", "type": "题型", "chain": "推理链"}
_MARKER = {name: re.compile(rf"^{word}：.*（([a-z0-9_]+)）\s*$", re.MULTILINE) for name, word in MARKERS.items()}


def asked(text: str) -> Asked | Refusal:
    """Return what the marker lines of a user message ask for; a 400 that names the missing or unknown one."""
    found: dict[str, str] = {}
    for name, pattern in _MARKER.items():
        match = pattern.search(text)
        if match is None:
            return Refusal(400, f"the first user message has no line '{MARKERS[name]}：…（slug）'")
        found[name] = match[1]
    wanted = Asked(**found)
    if (wanted.type, wanted.difficulty) not in FORMS:
        return Refusal(400, f"no form for type '{wanted.type}' at difficulty '{wanted.difficulty}'")
    if wanted.chain not in ("full", "short"):
        return Refusal(400, f"chain '{wanted.chain}' is neither full nor short")
    return wanted


def complete(body: bytes, *, spoil: bool = False) -> bytes | Refusal:
    """Return the completion JSON for a request's JSON; `spoil` breaks the XML within."""
    try:
        call = msgspec.json.decode(body, type=_Call)
    except msgspec.DecodeError as error:
        return Refusal(400, f"not a chat completion request: {error}")
    if call.stream:
        return Refusal(400, "the embedded teacher does not stream; leave out 'stream'")
    first = next((message.content for message in call.messages if message.role == "user"), "")
    wanted = asked(first)
    if isinstance(wanted, Refusal):
        return wanted
    try:
        item = compose(wanted.topic, wanted.difficulty, wanted.type, call.seed, full=wanted.chain == "full")
    except Fault as fault:
        return Refusal(400, fault.message)
    content = write(item)
    if spoil:
        content = content.replace("<output>", "<answer>").replace("</output>", "</answer>")
    finish = "stop"
    if call.max_tokens is not None and len(content) > call.max_tokens:
        content, finish = content[: call.max_tokens], "length"
    # One token a character: nobody bills for it, and anybody can check it.
    prompt = sum(len(message.content) for message in call.messages)
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
