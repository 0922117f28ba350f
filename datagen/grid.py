"""The grid: topic × difficulty × type × sample, as a lazy stream of requests in that order."""

import difflib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from datagen import prompts
from datagen.teacher.sheets import FACTS
from schemas import chain
from schemas.faults import Fault
from schemas.params import Count, Params, Positive, Seconds, Share, Topic, Wording, load, topics
from schemas.record import Message

EMBEDDED = "embedded"
TEACHER = ("compose.py", "replies.py", "sheets.py")  # what a reply of the embedded teacher depends on
SAMPLES = 2**20  # a seed is round * SAMPLES + sample; the embedded teacher counts in the same way


class Generate(Params, frozen=True):
    """How the teacher is asked."""

    base_url: Annotated[str, Meta(pattern=r"^(embedded|https?://[^@\s]+)$")]
    """`embedded`, or the URL of an OpenAI-compatible endpoint, without a user or password in it."""
    model: str
    api_key_env: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The name of the environment variable that holds the key; the pattern refuses most keys put here by mistake."""
    chain: Literal["full", "short"]
    """full: the whole chain of thought; short: one sentence a part."""
    concurrency: Positive
    """Calls in flight."""
    timeout: Seconds
    """For one call, from its start to its last byte."""
    attempts: Positive
    """Tries of one call that fails for reasons of network or server; a refusal (429) costs none."""
    reasks: Count
    """Times a bad reply is asked again with its error."""
    temperature: Annotated[float, Meta(ge=0)]
    max_tokens: Positive
    min_yield: Share
    """Share of valid replies below which the run fails."""


class Axes(Struct, frozen=True):
    """What every topic is crossed with, by slug."""

    difficulties: dict[str, Wording]
    types: dict[str, Wording]

    def cells(self) -> int:
        """The number of cells of one topic."""
        return len(self.difficulties) * len(self.types)


class Body(Struct, frozen=True):
    """What is sent: the JSON body of POST /chat/completions."""

    model: str
    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    seed: int


class Request(Struct, frozen=True, omit_defaults=True):
    """One call: its place in the grid, whom it goes to, and what is sent."""

    topic: str
    difficulty: str
    type: str
    sample: int
    round: int
    endpoint: str
    """The URL, or for the embedded teacher its fingerprint: what the same body was answered by."""
    body: Body
    kind: str = "write"
    """What is asked for, a key of `kinds.KINDS`."""
    subject: str = ""
    """The id of the record that is asked about; none for `write`."""

    @property
    def key(self) -> str:
        """The SHA-256 of all of the above as canonical JSON: equal requests are paid for once."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def requests(
    chosen: dict[str, Topic], axes: Axes, params: Generate, endpoint: Callable[[str], str]
) -> Iterator[Request]:
    """Yield the requests of the chosen topics in grid order; `endpoint` names what answers for a topic."""
    full = params.chain == "full"
    for topic in chosen.items():
        slug, settings = topic
        answers = endpoint(slug)
        for difficulty in axes.difficulties.items():
            for type_ in axes.types.items():
                messages = prompts.write(topic, difficulty, type_, full=full)
                for sample in range(settings.samples):
                    body = Body(
                        model=params.model,
                        messages=messages,
                        temperature=params.temperature,
                        max_tokens=params.max_tokens,
                        seed=settings.round * SAMPLES + sample,
                    )
                    yield Request(slug, difficulty[0], type_[0], sample, settings.round, answers, body)


def endpoint(params: Generate, facts: Path = FACTS) -> Callable[[str], str]:
    """Return what names the answering endpoint of a topic: the URL, or `embedded:` and a hash of what it knows.

    The hash covers the teacher's sources, the way a chain is written and the topic's fact sheet, so that a reply from
    an older teacher is never taken for one from this.
    """
    if params.base_url != EMBEDDED:
        return lambda topic: params.base_url
    sources = [*(facts.parent / name for name in TEACHER), Path(chain.__file__)]
    teacher = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources))

    def fingerprint(topic: str) -> str:
        known = teacher.copy()
        sheet = facts / f"{topic}.yaml"
        if sheet.exists():
            known.update(sheet.read_bytes())
        return f"{EMBEDDED}:{known.hexdigest()[:16]}"

    return fingerprint


def read(path: Path | str = "params.yaml") -> tuple[dict[str, Topic], Axes, Generate]:
    """Return what params.yaml says of the grid: its topics, its axes, and how to ask."""
    axes = Axes(load("difficulties", dict[str, Wording], path), load("types", dict[str, Wording], path))
    return topics(path), axes, load("generate", Generate, path)


def only(topic: str, known: dict[str, Topic]) -> dict[str, Topic]:
    """Return one topic of the known ones; Fault that names the nearest for any other."""
    if topic in known:
        return {topic: known[topic]}
    near = difflib.get_close_matches(topic, known, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the topics are {', '.join(known)}"
    raise Fault(f"params.yaml: topics.{topic}: no such topic; {hint}")
