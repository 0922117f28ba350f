"""Whom to ask, how hard, and what it may cost: the sections `teachers`, `limits`, `budget` and `prices`.

Only a teacher's settings are part of what is asked. The other three change no data, so no stage depends on them.
"""

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from schemas.faults import Fault
from schemas.params import Params, Positive, Seconds, Share, load, nearest

EMBEDDED = "embedded"
MILLION = 1e6
RESERVED = ("model", "messages", "temperature", "max_tokens", "seed", "n", "stream")

Money = Annotated[float, Meta(ge=0)]


class Teacher(Params, frozen=True):
    """An endpoint and the model behind it."""

    base_url: Annotated[str, Meta(pattern=r"^(embedded|https?://[^@\s]+)$")]
    """`embedded`, or the URL of an OpenAI-compatible endpoint, without a user or password in it."""
    model: str
    api_key_env: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The name of the environment variable that holds the key; the pattern refuses most keys put here by mistake."""
    temperature: Annotated[float, Meta(ge=0)]
    max_tokens: Positive
    extra: dict[str, Any]
    """More fields of the body, such as `chat_template_kwargs: {enable_thinking: false}` for vLLM and transformers."""

    def __post_init__(self) -> None:
        """Refuse a field that is set elsewhere, or that would change how a reply is read."""
        for name in RESERVED:
            if name in self.extra:
                raise ValueError(f"`extra` may not hold '{name}'")


class Limits(Params, frozen=True):
    """How hard an endpoint is asked."""

    concurrency: Positive
    """Most calls in flight; fewer where the endpoint bears fewer."""
    timeout: Seconds
    """For one call, from its start to its last byte."""
    hung: Annotated[float, Meta(ge=2)] | None
    """A call this many times as slow as the slowest recent reply hangs and is tried again, the next time twice as
    patiently; if null, only the timeout ends it."""
    attempts: Positive
    """Tries of one call that fails for reasons of network or server; a refusal (429) costs none."""
    rpm: Positive | None
    """Calls a minute."""
    tpm: Positive | None
    """Tokens a minute, of prompts and replies together."""


class Budget(Params, frozen=True):
    """The most that all runs on one store together may come to; null for no bound."""

    calls: Positive | None
    tokens: Positive | None
    money: Money | None
    """In the currency of the prices."""
    hours: Seconds | None
    """Of running, summed over the runs."""


class Price(Params, frozen=True):
    """What a model costs, per million tokens."""

    input: Money
    output: Money
    batch: Share
    """What the same costs through the Batch API, as a share of it."""

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The cost of so many tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / MILLION


class Terms(Struct, frozen=True):
    """How hard to ask and what it may cost."""

    limits: Limits
    budget: Budget
    prices: dict[str, Price]
    """By model."""


def teacher(name: str, path: Path | str = "params.yaml") -> Teacher:
    """Return the teacher of this name; Fault that gives the nearest for any other."""
    known = load("teachers", dict[str, Teacher], path)
    if name not in known:
        raise Fault(f"{path}: teachers.{name}: no such teacher; {nearest(name, known, 'teachers')}")
    return known[name]


def terms(path: Path | str = "params.yaml") -> Terms:
    """Return how hard to ask and what it may cost."""
    return Terms(load("limits", Limits, path), load("budget", Budget, path), load("prices", dict[str, Price], path))
