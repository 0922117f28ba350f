"""How an author writes: chats as tokens to learn from, commissions in and replies out, with thoughts before or without.

A model thinks where its chat template knows `enable_thinking`, as Qwen3's does: turned off, the template itself puts
empty thoughts into the prompt. An item has a part of the name of the thoughts' tag, at which Qwen3's template would cut
a reply in two; so the template puts the prompts alone, and a reply is never handed to it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from schemas.record import Commission, Example, Message, Row
from train import model as models
from train import ready, watch
from train.author.alike import Seen
from train.author.examine import VERDICTS, Verdict, examine
from train.author.quality import LEVELS, QUALITIES, measured
from train.fit import Training
from train.generate import Held, Sampling, generate

THOUGHTS = "<think>\n"
MARK = "\x02"
"""Stands for a reply, where the end of a turn is looked for."""


class Written(Row, frozen=True):
    """A reply to a commission."""

    id: str
    """Of the commission."""
    thinking: bool
    reply: str
    verdict: Verdict


def tokens(examples: Sequence[Example], tokenizer: Any) -> list[dict[str, list[int]]]:
    """Return input_ids and labels of each chat; only the reply, and the mark that ends it, bear a loss.

    A reply with thoughts follows a prompt that asks for them, any other one that turns them off.
    """
    end = closing(tokenizer)
    found: list[dict[str, list[int]]] = [{} for _ in examples]
    for thinking in (True, False):
        part = [n for n, e in enumerate(examples) if e.messages[-1].content.startswith(THOUGHTS) is thinking]
        asked = models.asking([examples[n].messages[:-1] for n in part], tokenizer, thinking) if part else []
        whole = [text + examples[n].messages[-1].content + end for n, text in zip(part, asked, strict=True)]
        if not part:
            continue
        ids = zip(models.token_ids(tokenizer, asked), models.token_ids(tokenizer, whole), strict=True)
        for n, (before, every) in zip(part, ids, strict=True):
            start = next((at for at, (a, b) in enumerate(zip(before, every, strict=False)) if a != b), len(before))
            found[n] = {"input_ids": every, "labels": [-100] * start + every[start:]}
    return found


def closing(tokenizer: Any) -> str:
    """Return what a template puts after a reply, up to and with the mark at which generation ends."""
    turns = [Message(role="user", content="?"), Message(role="assistant", content=MARK)]
    text: str = tokenizer.apply_chat_template(models.as_dicts(turns), tokenize=False)
    head, mark, _ = text.partition(MARK)[2].partition(tokenizer.eos_token)
    return head + mark


def switches(tokenizer: Any) -> bool:
    """Whether a chat template can turn thinking off and on."""
    asked = [[Message(role="user", content="?")]]
    return models.asking(asked, tokenizer, True) != models.asking(asked, tokenizer, False)


def modes(tokenizer: Any, thinking: Sequence[bool], where: str) -> Iterator[ready.Finding]:
    """Yield that an author is to write with thinking and without, and its template knows no such thing."""
    if len(set(thinking)) > 1 and not switches(tokenizer):
        yield ready.wrong(
            f"{where}: both, but the model's chat template knows no enable_thinking (Qwen3's does); take one of "
            "true and false, or another model"
        )


def ways(start: ready.Start, thinking: Sequence[bool], where: str) -> Iterator[ready.Finding]:
    """Yield what is wrong with the ways in which an author is to write, its template looked at if it is there."""
    if not thinking:
        yield ready.wrong(f"{where}: []; take true, false or both")
    if tokenizer := ready.tokenizer(start.path):
        yield from modes(tokenizer, thinking, where)


def levels(commissions: Iterable[Commission]) -> Iterator[ready.Finding]:
    """Yield the difficulties of which it is not known how much there is to do."""
    for slug in sorted({one.difficulty for one in commissions} - LEVELS.keys()):
        yield ready.wrong(f"{slug}: no such difficulty in train.author.quality.LEVELS; say how much there is to do")


def written(
    network: Any,
    tokenizer: Any,
    commissions: Sequence[Commission],
    sampling: Sampling,
    thinking: bool,
    engine: Held = "transformers",
) -> list[Written]:
    """Return the reply to each commission, examined."""
    asked = [commission.prompt for commission in commissions]
    mode = thinking if switches(tokenizer) else None
    made = generate(network, tokenizer, asked, sampling, engine=engine, thinking=mode)
    replies = {n: text for batch in made for n, text in batch}
    return [
        Written(id=c.id, thinking=thinking, reply=replies[n], verdict=examine(replies[n]).verdict)
        for n, c in enumerate(commissions)
    ]


def watching(
    params: Training,
    given: Mapping[bool, Mapping[str, Commission]],
    sampling: Sampling,
    tokenizer: Any,
    seen: Seen,
) -> watch.Watching:
    """Return the commissions that are given on the way, with thinking or without, by the ids of their replies.

    A reply is right if computer algebra confirms it, a question new if it is unlike those in `seen`, which stays as it
    is: what is watched is remembered by none. With thinking and without, the commissions are the same in number, and
    stand beside one another.
    """

    def ask(network: Any, step: int, as_it_was: watch.AsItWas) -> list[watch.Reply]:
        found = []
        for thinking, some in given.items():
            told = list(some.values())
            made = written(network, tokenizer, told, sampling, thinking, params.engine)
            worth = measured(QUALITIES, told, [one.reply for one in made], seen)
            found += [
                watch.Reply(
                    step=step,
                    id=id,
                    reply=one.reply,
                    right=one.verdict == "confirmed",
                    kl=None,
                    qualities={name: round(worth[name][n], 4) for name in worth},
                )
                for n, (id, one) in enumerate(zip(some, made, strict=True))
            ]
        return found

    shown = [
        watch.Watched(id=id, question=commission.prompt[-1].content, reference="confirmed")
        for beside in zip(*(some.items() for some in given.values()), strict=True)
        for id, commission in beside
    ]
    return watch.Watching(params.watch.every, shown, ask)


def shares(replies: Sequence[Written]) -> dict[str, float]:
    """Return the share of each verdict."""
    return {name: round(sum(r.verdict == name for r in replies) / max(1, len(replies)), 4) for name in VERDICTS}
