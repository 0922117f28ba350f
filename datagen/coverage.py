"""How far a grid is covered: what its requests have come to in the store, and what that took."""

from collections.abc import Iterable

from msgspec import Struct

from datagen.dialogue import Done, replay
from datagen.grid import Request
from datagen.store import Store, bound

Cell = tuple[str, ...]
"""Topic, difficulty and type, or the topic alone."""


class Cover(Struct):
    """How a part of the grid is covered."""

    wanted: int = 0
    valid: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    most: int = 0
    """Tokens that the open requests can come to, none asked again."""

    @property
    def done(self) -> int:
        """Requests that have come to an end."""
        return self.valid + self.rejected

    @property
    def open(self) -> int:
        """Requests that have not, re-asks not counted."""
        return self.wanted - self.done


def coverage(stream: Iterable[Request], reasks: int, store: Store, *, cells: bool = False) -> dict[Cell, Cover]:
    """Return how each topic, or each cell, of a stream of requests is covered, in its order."""
    found: dict[Cell, Cover] = {}
    for request in stream:
        cell = (request.topic, request.difficulty, request.type) if cells else (request.topic,)
        cover = found.setdefault(cell, Cover())
        state = replay(request, reasks, store.reply)
        replies = state.replies if isinstance(state, Done) else state.bad
        cover.wanted += 1
        if isinstance(state, Done):
            cover.valid += state.fault is None
            cover.rejected += state.fault is not None
        else:
            cover.most += sum(bound(request.body))
        cover.prompt_tokens += sum(reply.prompt_tokens for reply in replies)
        cover.completion_tokens += sum(reply.completion_tokens for reply in replies)
    return found


def total(covers: Iterable[Cover]) -> Cover:
    """Return the sum."""
    sums = Cover()
    for cover in covers:
        for name in Cover.__struct_fields__:
            setattr(sums, name, getattr(sums, name) + getattr(cover, name))
    return sums
