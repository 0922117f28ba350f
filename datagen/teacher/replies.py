"""What the embedded teacher replies: the JSON of a request in, the JSON of a completion out, the same for the same.

The first user message says what is asked for by lines that end in a slug: 任务：…（verify）, none for a question to be
written, then 主题：…（economy）, 难度：…（basic）, 题型：…（factual） and what the kind needs besides, as
推理链：…（short）. An item to work on is the first <item> of the message. A conversation that goes on (a bad reply,
then a complaint) gets the reply that it was first asked for.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Literal
from xml.sax.saxutils import escape

import msgspec
from msgspec import Struct

from datagen.teacher import answer, chains
from datagen.teacher.compose import compose
from datagen.teacher.contrast import CONTRASTS, contrast
from datagen.teacher.improve import improve
from datagen.teacher.reasons import reason
from datagen.teacher.review import judge
from datagen.teacher.sheets import read
from datagen.teacher.translate import translate
from datagen.teacher.vary import VARIATIONS, Wish, vary
from schemas.chain import Malformed, parse, write
from schemas.faults import Fault
from schemas.record import LETTERS, Item, Judgement, Options


class _Part(Struct):
    text: str = ""


class _Message(Struct):
    role: Literal["system", "user", "assistant"]
    content: str | list[_Part]

    @property
    def text(self) -> str:
        """The content, whose parts some clients send one by one."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


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
    """What the marker lines of a first user message ask for."""

    topic: str
    difficulty: str
    type: str
    chain: str = ""
    kind: str = "write"
    variation: str = ""
    contrast: str = ""
    target: str = ""


Reply = Callable[[Asked, str, int], str]
"""From what is asked, the message and the seed to the reply; Fault where the message cannot be answered."""


class Kind(Struct, frozen=True):
    """A kind of request."""

    reply: Reply
    markers: tuple[str, ...] = ()
    """The markers it needs besides topic, difficulty and type."""


MARKERS = {
    "kind": "任务",
    "topic": "主题",
    "difficulty": "难度",
    "type": "题型",
    "chain": "推理链",
    "variation": "变式",
    "contrast": "对照",
    "target": "目标",
}
CHOICES = {
    "chain": ("full", "short"),
    "variation": tuple(VARIATIONS),
    "contrast": tuple(CONTRASTS),
}
_MARKER = {name: re.compile(rf"^{word}：.*（([a-z0-9_]+)）\s*$", re.MULTILINE) for name, word in MARKERS.items()}
_ITEM = re.compile(r"<item>.*?</item>", re.DOTALL)
_QUESTION = re.compile(
    r"^问题：(.+)\n" + "".join(rf"(?:.*\n)*?{letter}[.．、][ 　]*(.+)(?:\n|\Z)" for letter in LETTERS), re.MULTILINE
)
_FEEDBACK = re.compile(r"^意见：(.+)$", re.MULTILINE)


def asked(text: str) -> Asked | Refusal:
    """Return what the marker lines of a user message ask for; a 400 that names the missing or unknown one."""
    text = _ITEM.sub("", text)
    found = {name: match[1] for name, pattern in _MARKER.items() if (match := pattern.search(text))}
    kind = found.setdefault("kind", "write")
    if kind not in KINDS:
        return Refusal(400, f"no such task '{kind}'; the embedded teacher knows {', '.join(KINDS)}")
    needed = ("kind", "topic", "difficulty", "type", *KINDS[kind].markers)
    for name in needed:
        if name not in found:
            return Refusal(400, f"the first user message has no line '{MARKERS[name]}：…（slug）'")
        if name in CHOICES and found[name] not in CHOICES[name]:
            return Refusal(400, f"{name} '{found[name]}' is none of {', '.join(CHOICES[name])}")
    return Asked(**{name: found[name] for name in needed})


def complete(
    body: bytes, *, spoil: bool = False, others: Mapping[str, Mapping[str, Reply]] = MappingProxyType({})
) -> bytes | Refusal:
    """Return the completion JSON for a request's JSON; `spoil` breaks the XML within.

    `others`: by topic, and then by kind, who replies in place of the fact sheets.
    """
    try:
        call = msgspec.json.decode(body, type=_Call)
    except msgspec.DecodeError as error:
        return Refusal(400, f"not a chat completion request: {error}")
    if call.stream:
        return Refusal(400, "the embedded teacher does not stream; leave out 'stream'")
    first = next((message.text for message in call.messages if message.role == "user"), "")
    wanted = asked(first)
    if isinstance(wanted, Refusal):
        return wanted
    try:
        reply = others.get(wanted.topic, {}).get(wanted.kind, KINDS[wanted.kind].reply)
        content = reply(wanted, first, call.seed)
    except Fault as fault:
        return Refusal(400, fault.message)
    if spoil:
        content = spoiled(content)
    finish = "stop"
    if call.max_tokens is not None and len(content) > call.max_tokens:
        content, finish = content[: call.max_tokens], "length"
    # One token a character: nobody bills for it, and anybody can check it.
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


def spoiled(content: str) -> str:
    """Return a reply whose last element has the wrong name, which no repair can mend."""
    return re.sub(r"<(\w+)>([^<]*)</\1>(\s*</\w+>\s*)\Z", r"<answer>\2</answer>\3", content)


def _write(wanted: Asked, text: str, seed: int) -> str:
    return write(compose(wanted.topic, wanted.difficulty, wanted.type, seed, full=wanted.chain == "full"))


def _verify(wanted: Asked, text: str, seed: int) -> str:
    """Answer a question of which nothing but the options is shown."""
    stem, options = shown(text)
    sheet = read(wanted.topic)
    question = answer.question(wanted.topic, stem)
    at = answer.solve(sheet, question, options)
    item = chains.write(stem, options, at, reason(sheet, question, options, at), Random(stem), full=False)
    return answered(item)


def _judge(wanted: Asked, text: str, seed: int) -> str:
    return judged(judge(wanted.topic, wanted.difficulty, item_of(text)))


def _improve(wanted: Asked, text: str, seed: int) -> str:
    return write(improve(wanted.topic, item_of(text), feedback(text), full=wanted.chain == "full"))


def _vary(wanted: Asked, text: str, seed: int) -> str:
    return write(vary(item_of(text), wish(wanted, seed)))


def _contrast(wanted: Asked, text: str, seed: int) -> str:
    return write(contrast(wanted.topic, item_of(text), wanted.contrast, seed, full=wanted.chain == "full"))


def _translate(wanted: Asked, text: str, seed: int) -> str:
    return write(translate(item_of(text), wanted.target))


def answered(item: Item) -> str:
    """Write how a question was answered."""
    steps = "".join(f'<step n="{n}">{escape(step)}</step>' for n, step in enumerate(item.steps, 1))
    return f"<answer>\n<reasoning>{steps}</reasoning>\n<output>{item.answer}</output>\n</answer>"


def judged(judgement: Judgement) -> str:
    """Write a judgement."""
    marks = msgspec.structs.asdict(judgement)
    lines = "\n".join(f"<{name}>{escape(str(mark))}</{name}>" for name, mark in marks.items())
    return f"<judgement>\n{lines}\n</judgement>"


def wish(wanted: Asked, seed: int) -> Wish:
    """Return the variation that is asked for."""
    full = wanted.chain == "full"
    return Wish(wanted.topic, wanted.difficulty, wanted.type, wanted.variation, seed, full)


def shown(text: str) -> tuple[str, Options]:
    """Return the question and the options that a message shows; Fault if it shows none."""
    found = _QUESTION.search(text)
    if found is None:
        raise Fault("the first user message has no lines '问题：…' and 'A. …' to 'D. …'")
    stem, a, b, c, d = (part.strip() for part in found.groups())
    return stem, (a, b, c, d)


def feedback(text: str) -> str:
    """Return what a message says of the item that it hands over; Fault if it says nothing."""
    found = _FEEDBACK.search(_ITEM.sub("", text))
    if found is None:
        raise Fault("the first user message has no line '意见：…'")
    return found[1]


def item_of(text: str) -> Item:
    """Return the item that a message hands over; Fault if there is none that can be read."""
    found = _ITEM.search(text)
    if found is None:
        raise Fault("the first user message hands over no <item>")
    item = parse(found[0])
    if isinstance(item, Malformed):
        raise Fault(f"the item handed over cannot be read: {item.reason}: {item.detail}")
    return item


KINDS: dict[str, Kind] = {
    "write": Kind(_write, ("chain",)),
    "verify": Kind(_verify),
    "judge": Kind(_judge),
    "improve": Kind(_improve, ("chain",)),
    "vary": Kind(_vary, ("chain", "variation")),
    "contrast": Kind(_contrast, ("chain", "contrast")),
    "translate": Kind(_translate, ("target",)),
}
