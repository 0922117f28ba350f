"""What has become of a request: its replies judged, and what to ask next.

A bad reply is answered by a re-ask: a request of its own, whose messages hold the reply and what was wrong with it. The
whole state of a conversation is thus in the store, and walking it again costs nothing.
"""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from datagen import prompts
from datagen.client import Reply
from datagen.grid import Request
from datagen.kinds import KINDS
from schemas.chain import Malformed


class Next(Struct, frozen=True):
    """The request to send now, and how often the first one has been asked again with it."""

    request: Request
    key: str
    root: str
    """The key of the first request."""
    turn: int
    bad: tuple[Reply, ...]
    """The replies so far, none of them good."""


class Done(Struct, frozen=True):
    """Nothing more to ask: the last reply is good, or asking again is used up."""

    replies: tuple[Reply, ...]
    """All replies, the last one being the one that counts."""
    fault: str | None
    repairs: tuple[str, ...]


def begin(request: Request) -> Next:
    """Return the first turn of the conversation about a request."""
    key = request.key
    return Next(request, key, key, 0, ())


def advance(turn: Next, reply: Reply, reasks: int) -> Next | Done:
    """Return what follows the reply to a turn."""
    kind = KINDS[turn.request.kind]
    replies = (*turn.bad, reply)
    verdict = kind.judge(turn.request, reply)
    if not isinstance(verdict, Malformed):
        return Done(replies, None, verdict)
    if turn.turn >= reasks:
        return Done(replies, f"{verdict.reason}: {verdict.detail}", ())
    messages = prompts.reask(turn.request.body.messages, reply.content, verdict, kind.root)
    request = replace(turn.request, body=replace(turn.request.body, messages=messages))
    return Next(request, request.key, turn.root, turn.turn + 1, replies)


def replay(request: Request, reasks: int, stored: Callable[[str], Reply | None]) -> Next | Done:
    """Walk the stored replies to a request and to its re-asks; return where that ends."""
    state: Next | Done = begin(request)
    while isinstance(state, Next) and (reply := stored(state.key)):
        state = advance(state, reply, reasks)
    return state
