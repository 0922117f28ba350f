"""What the author is asked for in reinforcement, and what it remembers of its own questions.

A commission as it comes from the data, a variation of one of the best questions so far, a request to leave known
patterns, or an earlier prompt once more: each has a share of the prompts. Which it is to be, and of what, is decided
when the replies are to be made, so that it depends on nothing but the steps before it. All that is remembered goes with
the checkpoints: a run that goes on asks as one that was never stopped.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas import chat
from schemas.chat import Words
from schemas.params import Params, Share
from schemas.record import Commission, Item, Message, Slug, Variation
from train import model as models
from train.author.alike import Seen, masked, text_of
from train.author.examine import examine

Kind = Literal["base", "variation", "innovation", "replay"]
KINDS: tuple[Kind, ...] = ("base", "variation", "innovation", "replay")
VARIATIONS: tuple[Variation, ...] = ("context_change", "parameter_change", "practical_application")
"""Asked for in turn."""
BEST = 32
"""Questions that variations are made of."""
EARLIER = 64
"""Prompts that may be put once more."""


class Mix(Params, frozen=True):
    """Shares of the prompts; what is left of 1 are earlier prompts, put once more."""

    base: Share
    variation: Share
    innovation: Share

    def __post_init__(self) -> None:
        if self.base + self.variation + self.innovation > 1 + 1e-9:
            raise ValueError("base, variation and innovation are more than 1 together")

    def of(self, kind: Kind) -> float:
        """Return the share of a kind of prompt."""
        rest = round(1 - self.base - self.variation - self.innovation, 9)
        return {"base": self.base, "variation": self.variation, "innovation": self.innovation, "replay": rest}[kind]


class Best(Struct, frozen=True):
    """A question that variations are made of."""

    topic: Slug
    difficulty: Slug
    type: Slug
    item: Item
    total: float
    """What it earned."""


class State(Struct):
    """What goes with a checkpoint."""

    own: list[str]
    """The author's last questions, as `Seen` has them."""
    best: list[Best]
    """The best first; of those that differ in numbers alone one."""
    earlier: list[Commission]
    asked: dict[Kind, int]
    """How often each kind of prompt was put."""


class Curriculum:
    """What is asked next, and what is remembered of the replies.

    Where several processes train, each asks and remembers for its own replies; one that goes on begins with what the
    first of them remembered.
    """

    def __init__(
        self,
        mix: Mix,
        words: Words,
        innovation: str,
        seen: Seen,
        fits: Callable[[Sequence[Message]], bool],
        seed: int,
    ) -> None:
        self.mix, self.words, self.innovation, self.seen, self.fits, self.seed = (
            mix,
            words,
            innovation,
            seen,
            fits,
            seed,
        )
        self.look_back(None)

    def kept(self) -> dict[str, Any]:
        """Return what is remembered, as JSON has it."""
        state = State(list(self.seen.own), self.best, list(self.earlier), self.asked)
        made: dict[str, Any] = msgspec.to_builtins(state)
        return made

    def look_back(self, kept: Mapping[str, Any] | None) -> None:
        """Remember what `kept` returned; None: nothing was asked yet."""
        state = msgspec.convert(kept, State) if kept else State([], [], [], dict.fromkeys(KINDS, 0))
        self.seen.own.clear()
        self.seen.own.extend(state.own)
        self.best = state.best
        self.earlier = deque(state.earlier, maxlen=EARLIER)
        self.asked = state.asked

    def put(self, commissions: Iterable[Commission]) -> list[Commission]:
        """Return what the author is asked in place of commissions: the same cells, or those of other prompts."""
        found = [self._turned(commission) for commission in commissions]
        self.earlier.extend(commission for kind, commission in found if kind != "replay")
        return [commission for _, commission in found]

    def _turned(self, commission: Commission) -> tuple[Kind, Commission]:
        kind = self._next()
        number = sum(self.asked.values())
        made = commission
        if kind == "variation":
            best = self.best[self._drawn(len(self.best), commission.id, number)]
            how = VARIATIONS[self.asked["variation"] % len(VARIATIONS)]
            made = Commission(
                id=f"{commission.id}:{number}",
                topic=best.topic,
                difficulty=best.difficulty,
                type=best.type,
                prompt=self._varied(best, how),
            )
        elif kind == "innovation":
            made = replace(commission, prompt=innovated(commission.prompt, self.innovation))
        elif kind == "replay":
            made = self.earlier[self._drawn(len(self.earlier), commission.id, number)]
        self.asked[kind] += 1
        return kind, made

    def _next(self) -> Kind:
        """Return the kind of prompt that is furthest below its share, of those that there is something to draw from."""
        drawn_from = {"variation": self.best, "replay": self.earlier}
        kinds = [kind for kind in KINDS if self.mix.of(kind) and drawn_from.get(kind, True)]
        number = sum(self.asked.values()) + 1
        return max(kinds, key=lambda kind: self.mix.of(kind) * number - self.asked[kind], default="base")

    def _varied(self, best: Best, how: Variation) -> tuple[Message, ...]:
        names = self.words.of((best.topic, best.difficulty, best.type))
        return chat.variation(self.words.prompt, *names, best.item, how)

    def _drawn(self, of: int, *words: object) -> int:
        text = ":".join(map(str, (self.seed, *words)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % of

    def remember(self, commissions: Sequence[Commission], replies: Sequence[str], totals: Sequence[float]) -> None:
        """Remember the questions among the replies, and the best that were confirmed."""
        best = {masked(text_of(one.item)): one for one in reversed(self.best)}
        for commission, reply, total in zip(commissions, replies, totals, strict=True):
            found = examine(reply)
            if found.item is None or found.verdict not in ("confirmed", "unchecked"):
                continue
            self.seen.add([text_of(found.item)])
            key = masked(text_of(found.item))
            if found.verdict == "confirmed" and (key not in best or best[key].total < total):
                one = Best(commission.topic, commission.difficulty, commission.type, found.item, round(total, 6))
                if all(self.fits(self._varied(one, how)) for how in VARIATIONS):
                    best[key] = one
        self.best = sorted(best.values(), key=lambda one: (-one.total, one.item.question))[:BEST]


def innovated(prompt: Sequence[Message], innovation: str) -> tuple[Message, ...]:
    """Return a commission's messages with the request to leave known patterns."""
    *before, last = prompt
    return (*before, replace(last, content=f"{last.content}\n{innovation}"))


def row(commission: Commission) -> dict[str, Any]:
    """Return a commission as TRL takes it."""
    return {**msgspec.to_builtins(commission), "prompt": models.as_dicts(commission.prompt)}


def commissioned(trainer: Any, curriculum: Curriculum, weights: Mapping[str, float]) -> Any:
    """Return TRL's trainer, asking what the curriculum says and telling it what the replies earned."""

    class Commissioned(trainer):  # type: ignore[misc]
        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
            # Here and not where the rows are read: those of the next step are read before this one's replies are known.
            each = self.num_generations
            asked = curriculum.put(msgspec.convert(one, Commission) for one in inputs[::each])
            return super()._generate_and_score_completions([row(one) for one in asked for _ in range(each)])

        def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, *rest: Any) -> Any:
            given = super()._calculate_rewards(inputs, prompts, completions, *rest)
            first = self.accelerator.process_index * len(inputs)  # it has the replies of all processes
            mine = given[first : first + len(inputs)].tolist()
            totals = [sum(w * v for w, v in zip(weights.values(), one, strict=True)) for one in mine]
            replies = [completion[-1]["content"] for completion in completions]
            curriculum.remember([msgspec.convert(one, Commission) for one in inputs], replies, totals)
            return given

    return Commissioned
