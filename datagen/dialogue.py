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
from schemas.chain import Malformed
from schemas.repair import mend


class Next(Struct, frozen=True):
    """The request to send now, and how often the first one has been asked again with it."""

    request: Request
    turn: int
    bad: tuple[Reply, ...]
    """The replies so far, none of them good."""


class Done(Struct, frozen=True):
    """Nothing more to ask: the last reply is good, or asking again is used up."""

    replies: tuple[Reply, ...]
    """All replies, the last one being the one that counts."""
    fault: str | None
    repairs: tuple[str, ...]


def judge(reply: Reply) -> tuple[str, ...] | Malformed:
    """Return the repairs a reply needs, none for a strict one; Malformed if curation could not mend it either."""
    mended = mend(reply.content)
    if isinstance(mended, Malformed):
        if reply.finish == "length":
            return Malformed("cut_short", "the reply reached max_tokens and was cut off; write it shorter")
        return mended
    return mended[1]


def replay(request: Request, reasks: int, stored: Callable[[str], Reply | None]) -> Next | Done:
    """Walk the stored replies to a request and to its re-asks; return where that ends."""
    replies: list[Reply] = []
    while reply := stored(request.key):
        replies.append(reply)
        verdict = judge(reply)
        if not isinstance(verdict, Malformed):
            return Done(tuple(replies), None, verdict)
        if len(replies) > reasks:
            return Done(tuple(replies), f"{verdict.reason}: {verdict.detail}", ())
        messages = prompts.reask(request.body.messages, reply.content, verdict)
        request = replace(request, body=replace(request.body, messages=messages))
    return Next(request, len(replies), tuple(replies))
