"""Show what is behind a row: the request, every attempt, every reply, what was wrong with it."""

import json
from datetime import UTC, datetime

import click

from datagen.store import Asked, look, place
from schemas.faults import Fault

MIN_PREFIX = 4


def describe(asked: Asked, *, messages: int) -> str:
    """Return one request of a conversation as text, with its messages from number `messages` on."""
    request = asked.request
    body = request.body
    lines = [
        f"{'asked again' if asked.turn else 'request'} {asked.key}",
        f"  {request.topic} / {request.difficulty} / {request.type}, sample {request.sample}, round {request.round}"
        + (f"; {request.kind} {request.subject}" if request.subject else ""),
        f"  {body.model} at {request.endpoint}, temperature {body.temperature:g}, max_tokens {body.max_tokens}, "
        f"seed {body.seed}" + "".join(f", {name} {json.dumps(value)}" for name, value in body.extra.items()),
    ]
    lines += [f"--- {message.role}\n{message.content}" for message in body.messages[messages:]]
    for number, attempt in enumerate(asked.attempts, 1):
        at = datetime.fromtimestamp(attempt.at, UTC).isoformat(timespec="seconds")
        error = f": {attempt.error}" if attempt.error else ""
        how = f"HTTP {attempt.status or '-'}, {attempt.latency:.3f} s{error}"
        lines.append(f"--- attempt {number} at {at}: {attempt.verdict}, {how}")
    if asked.reply:
        tokens = f"{asked.reply.prompt_tokens} + {asked.reply.completion_tokens} tokens"
        lines.append(f"--- reply by {asked.reply.model}, {tokens}, finish {asked.reply.finish}\n{asked.reply.content}")
        lines.append(f"--- verdict: {asked.fault or 'valid'}")
    else:
        lines.append("--- no reply yet")
    return "\n".join(lines)


@click.command()
@click.argument("id")
def main(id: str) -> None:
    """Print the conversation behind the row whose ID begins so."""
    if len(id) < MIN_PREFIX:
        raise Fault(f"{id}: give at least {MIN_PREFIX} characters of an id")
    with look(place()) as store:
        roots = store.find(id.lower())
        if not roots:
            raise Fault(f"{id}: nothing in {place()} has an id that begins so; ids are in the rows' field 'id'")
        if len(roots) > 1:
            raise Fault(f"{id}: several ids begin so: {', '.join(root[:16] for root in roots)}")
        shown = 0
        for asked in store.conversation(roots[0]):
            click.echo(describe(asked, messages=shown))
            shown = len(asked.request.body.messages)
        if about := store.about(roots[0][:16]):
            click.echo(f"--- asked about it: {', '.join(f'{kind} {key[:16]}' for kind, key in about)}")
