"""Reinforce the author by the qualities of what it writes, and show whether it writes better; resumes like `sft`.

commissions (JSONL), the chats it was taught by, a model → a model or adapter folder, metrics with the qualities and
verdicts before and after, on commissions held out of training. Besides commissions it is asked for variations of its
best questions so far, for what leaves known patterns, and for earlier prompts once more (`train.author.curriculum`).

A question is new if it is unlike those that the author was taught; for its reward, also unlike its own before it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from schemas import chat, rows
from schemas.chat import Words
from schemas.faults import Fault
from schemas.params import load
from schemas.record import Commission, Example, Message, Record
from train import launch, ready, reference, reinforce, watch
from train import model as models
from train.author import writing
from train.author.alike import Seen, taught
from train.author.curriculum import KINDS, VARIATIONS, Curriculum, Mix, commissioned, innovated, row
from train.author.examine import VERDICTS, Verdict, examine
from train.author.quality import QUALITIES, bound, measured
from train.fit import config, fit
from train.reinforce import Course, Reinforcement, Reply
from train.rollout import faster
from train.workplace import workplace

SECTION = "author_grpo"


class AuthorGrpoParams(Reinforcement, frozen=True):
    """What is asked for, what is rewarded and how it is trained."""

    qualities: dict[str, float]
    """Weights by name; the names are the keys of QUALITIES."""
    thinking: bool
    """Whether the author writes a solution first, as thoughts; false: at once."""
    mix: Mix
    innovation: str
    """What is added to a commission that is to leave known patterns."""


class Written(Reply, frozen=True):
    """A reply to a held-out commission, and what was found in it."""

    verdict: Verdict
    why: str


def fitting(commissions: Sequence[Commission], tokenizer: Any, params: AuthorGrpoParams) -> list[Commission]:
    """Return the commissions that are not too long, whatever is added to them; Fault if they are too few."""
    longest = [innovated(commission.prompt, params.innovation) for commission in commissions]
    return reinforce.fitting(SECTION, commissions, _lengths(longest, tokenizer, params), params)


def _lengths(prompts: Sequence[Sequence[Message]], tokenizer: Any, params: AuthorGrpoParams) -> list[int]:
    texts = models.asking(prompts, tokenizer, _mode(tokenizer, params))
    return [len(ids) for ids in models.token_ids(tokenizer, texts)]


def _mode(tokenizer: Any, params: AuthorGrpoParams) -> bool | None:
    """Return what the chat template is told of thinking; None: it knows no such thing."""
    return params.thinking if writing.switches(tokenizer) else None


def judged(
    commissions: Sequence[Commission], replies: Sequence[str], seen: Seen, weights: Mapping[str, float]
) -> list[Written]:
    """Return the reply to each commission with its qualities and its verdict."""
    given = measured(weights, commissions, replies, seen)
    found = [examine(reply) for reply in replies]
    return [
        Written(
            id=commission.id,
            response=replies[n],
            rewards={name: given[name][n] for name in weights},
            total=total,
            verdict=found[n].verdict,
            why=found[n].why,
        )
        for n, (commission, total) in enumerate(zip(commissions, reinforce.totals(given, weights), strict=True))
    ]


def verdicts(replies: Sequence[Written]) -> dict[str, Any]:
    """Return the share of each verdict with its 95 % interval over commissions, and why what is wrong is wrong."""
    return {
        **{name: reinforce.over_prompts(replies, [float(r.verdict == name) for r in replies]) for name in VERDICTS},
        "why": dict(Counter(reply.why for reply in replies if reply.why).most_common()),
    }


def check(
    params: AuthorGrpoParams,
    start: ready.Start,
    commissions: ready.Rows[Commission],
    words: Words,
    anywhere: bool = False,
) -> Iterator[ready.Finding]:
    """Yield what is known of a training before its model is loaded; `anywhere` as for `ready.settings`."""
    from trl import GRPOConfig

    yield from reinforce.known(f"{SECTION}.qualities", params.qualities, QUALITIES)
    yield from ready.training(SECTION, params, start)
    args, found = ready.settings(GRPOConfig, SECTION, params.trainer, _ours(params, Path("unused"), None), anywhere)
    yield from found
    yield from ready.some(commissions, "write for")
    yield from ready.once(commissions)
    yield from wording(commissions.rows or (), words)
    yield from writing.levels(commissions.rows or ())
    tokenizer = ready.tokenizer(start.path)
    if tokenizer and params.thinking and not writing.switches(tokenizer):
        yield ready.wrong(
            f"params.yaml: {SECTION}.thinking: true, but the model's chat template knows no enable_thinking (Qwen3's "
            "does); set it to false, or take another model"
        )
    count = len(commissions.rows) if commissions.rows is not None else None
    if tokenizer and commissions.rows:
        try:
            count = len(fitting(commissions.rows, tokenizer, params))
        except Fault as fault:
            yield ready.wrong(f"{commissions.path}: {fault.message}")
            return
        if count < len(commissions.rows):
            left_out = len(commissions.rows) - count
            yield ready.told(f"{left_out} commissions of more than {params.max_prompt} tokens left out")
    if args:
        left = None if count is None else count - params.held_out
        yield from reinforce.generations(SECTION, params, args, start.path, left)
        if args.per_device_train_batch_size * args.steps_per_generation % args.num_generations:
            yield ready.wrong(
                f"params.yaml: {SECTION}.trainer: the {args.num_generations} replies to a prompt (num_generations) "
                "must come from one process; make per_device_train_batch_size a multiple of it"
            )


def wording(given: Iterable[Commission | Record], words: Words) -> Iterator[ready.Finding]:
    """Yield what the author could not be told: ways of varying a question, the cell of one."""
    for how in VARIATIONS:
        if how not in words.prompt.variations:
            yield ready.wrong(f"params.yaml: prompts.author.variations: no {how}; add it")
    try:
        for one in given:
            words.of((one.topic, one.difficulty, one.type))
    except Fault as fault:
        yield ready.wrong(fault.message)


def _ours(params: AuthorGrpoParams, place: Path, thinking: bool | None) -> dict[str, Any]:
    """Return what the stage sets of TRL's config."""
    template = None if thinking is None else {"enable_thinking": thinking}
    return {**reinforce.ours(params, place, params.qualities), "chat_template_kwargs": template}


def author_grpo(
    params: AuthorGrpoParams,
    network: Any,
    tokenizer: Any,
    commissions: Sequence[Commission],
    curriculum: Curriculum,
    place: Path,
    watching: watch.Watching | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Train; return TRL's trainer and the figures."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    data = Dataset.from_list([row(commission) for commission in commissions])
    rewards = [bound(name, curriculum.seen) for name in params.qualities]
    kind = commissioned(faster(GRPOTrainer, params.engine), curriculum, params.qualities)

    def make(settings: dict[str, Any]) -> Any:
        args = config(GRPOConfig, SECTION, settings, **_ours(params, place, _mode(tokenizer, params)))
        reference.forget(network)
        return kind(model=network, reward_funcs=rewards, args=args, train_dataset=data, processing_class=tokenizer)

    trainer, figures = fit(make, params.trainer, SECTION, place, watching, curriculum)
    reference.forget(network)
    asked = {kind: curriculum.asked[kind] for kind in KINDS}
    shares = {kind: round(count / max(1, sum(asked.values())), 4) for kind, count in asked.items()}
    return trainer, {"asked": asked, "shares": shares, **figures, "last": reinforce.last(trainer)}


def watching(params: AuthorGrpoParams, held: Sequence[Commission], tokenizer: Any, seen: Seen) -> watch.Watching:
    """Return which of the held-out commissions are given on the way, replied to as in training."""
    given = {one.id: one for one in watch.chosen(held, params.watch.questions, params.seed)}
    sampling = reinforce.sampling(SECTION, params)
    return writing.watching(params, {params.thinking: given}, sampling, tokenizer, seen)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("prompts", type=click.Path(path_type=Path))
@click.argument("chats", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(prompts: Path, chats: Path, model: str, out: Path, metrics: Path) -> None:
    """Train MODEL, taught by CHATS, or the model that author_grpo.model names instead, on PROMPTS; write it to OUT."""
    params = load(SECTION, AuthorGrpoParams)
    words = chat.words()
    start = params.model or model
    models.quiet(local=models.is_local(start))
    every = ready.read(prompts, Commission).rows or ()
    ready.insist(check(params, ready.Start(start), ready.Rows(prompts, every), words))
    known = taught(rows.read(chats, Example))
    launch.launch(params.accelerate, f"train.{SECTION}", prompts, chats, model, out, metrics, whole=True)
    place = workplace(SECTION, (params, words, start), [prompts, chats, Path(start)])

    def course(network: Any, tokenizer: Any) -> Course[Written]:
        kept = fitting(every, tokenizer, params)
        training, held = reinforce.divide(kept, params.held_out, params.seed)
        sampling = reinforce.sampling(SECTION, params)
        seen = Seen(known)

        def ask(network: Any) -> list[Written]:
            asked = [commission for commission in held for _ in range(params.samples)]
            made = writing.written(network, tokenizer, asked, sampling, params.thinking, params.engine)
            return judged(asked, [one.reply for one in made], seen, params.qualities)

        def fits(prompt: Sequence[Message]) -> bool:
            return _lengths([prompt], tokenizer, params)[0] <= params.max_prompt

        curriculum = Curriculum(params.mix, words, params.innovation, Seen(known), fits, params.seed)
        watched = watching(params, held, tokenizer, seen)
        return Course(
            held=len(held),
            row=Written,
            ask=ask,
            train=lambda: author_grpo(params, network, tokenizer, training, curriculum, place, watched),
            prompts={"prompts": len(training), "prompts_too_long": len(every) - len(kept), "taught": len(known)},
            more=lambda before, after: {"verdicts_before": verdicts(before), "verdicts_after": verdicts(after)},
        )

    figures = reinforce.run(SECTION, params, params.qualities, start, place, out, metrics, course)
    before, after = (figures[f"verdicts_{when}"]["confirmed"]["mean"] for when in ("before", "after"))
    click.echo(f"{SECTION}: {before:.1%} of the questions confirmed before, {after:.1%} after")


if __name__ == "__main__":
    main()
