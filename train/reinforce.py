"""Reinforcement: what the stages have in common that train by named, weighted rewards, whatever is rewarded.

A stage says what its model is asked, what each reply earns and how TRL's trainer is built; here it is checked before
hours are spent, asked before and after training, and shown to have earned more or not.
"""

import difflib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Generic, NamedTuple, TypeVar

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.params import Positive
from schemas.record import Commission, Prompt, Row
from train import heldout, launch, ready, watch
from train.card import save
from train.fit import Training, config, loaded
from train.generate import Sampling
from train.workplace import folder, running

FEW = 16
"""Held-out prompts from which on it counts that the replies to none of them differ in what they earn."""
ALIKE = 0.9
"""Share of them with equal rewards above which a training is warned of."""

P = TypeVar("P", Prompt, Commission)
R = TypeVar("R", bound="Reply")


class Reinforcement(Training, frozen=True):
    """What every training by rewards has."""

    max_prompt: Positive
    """Tokens; longer prompts are left out and counted."""
    held_out: Positive
    """Prompts kept out of training, sampled before and after it."""
    samples: Positive
    """Replies to each of them."""


class Reply(Row, frozen=True):
    """A reply to a held-out prompt and what each reward gave for it."""

    id: str
    response: str
    rewards: dict[str, float]
    total: float


class Course(NamedTuple, Generic[R]):
    """A training, its model loaded."""

    held: int
    """Prompts held out."""
    row: type[R]
    ask: Callable[[Any], list[R]]
    """Has a model as it stands reply to the held-out prompts."""
    train: Callable[[], tuple[Any, dict[str, Any]]]
    """Returns TRL's trainer and the figures."""
    prompts: Mapping[str, int]
    """How many there are to train on, and were left out."""
    more: Callable[[Sequence[R], Sequence[R]], dict[str, Any]]
    """Further figures from the replies before and after."""


def run(
    stage: str,
    params: Reinforcement,
    weights: Mapping[str, float],
    start: str,
    place: Path,
    out: Path,
    metrics: Path,
    course: Callable[[Any, Any], Course[R]],
) -> dict[str, Any]:
    """Train the model `start` and write it, its metrics and its last replies; return the figures.

    `course` makes of the loaded model and its tokenizer what is to be done.
    """
    with running(place):
        network, tokenizer = loaded(params, start)
        held, row, ask, train, prompts, more = course(network, tokenizer)
        first = place / "before.jsonl"  # sampled once: a run that goes on compares with the same start
        if launch.first() and not first.exists():
            rows.write(first, ask(network))
        before = list(rows.read(first, row)) if launch.first() else []
        if found := alike(stage, before):
            ready.insist([found])
            click.echo(found.text)
        trainer, figures = train()
        after = ask(trainer.model)
        figures = {
            **prompts,
            "reward_before": summary(before, weights),
            "reward_after": summary(after, weights),
            "reward_gain": gain(before, after),
            **more(before, after),
            **figures,
        }
        with folder(out) as new:
            save(trainer, tokenizer, new, params, stage, start, figures)
            rows.write(new / "samples.jsonl", after)
        rows.write_json(metrics, figures)
        shutil.rmtree(place)
    low, high = figures["reward_gain"]["interval95"]
    click.echo(
        f"{stage}: {figures['steps']} steps in {figures['seconds']} s, reward {figures['reward_before']['mean']:.3f} → "
        f"{figures['reward_after']['mean']:.3f} on {held} held-out prompts, gain [{low:+.3f}, {high:+.3f}]"
    )
    return figures


# What is trained on and what is held out


def divide(prompts: Sequence[P], held_out: int, seed: int) -> tuple[list[P], list[P]]:
    """Return the prompts to train on and those held out; which are is decided by id and seed, not by order."""
    held = watch.chosen(prompts, held_out, seed)
    ids = {prompt.id for prompt in held}
    return [prompt for prompt in prompts if prompt.id not in ids], held


def fitting(section: str, prompts: Sequence[P], lengths: Sequence[int], params: Reinforcement) -> list[P]:
    """Return the prompts that are not too long; Fault if they are too few to train on, some of them held out."""
    found = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= params.max_prompt]
    if len(found) < params.held_out + 2:
        raise Fault(
            f"{len(found)} prompts of at most {params.max_prompt} tokens ({section}.max_prompt), too few to train on "
            f"with {params.held_out} of them held out ({section}.held_out)"
        )
    return found


# What replies earn


def totals(given: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """Return the weighted sum of each reply's rewards."""
    return [
        sum(weight * value for weight, value in zip(weights.values(), values, strict=True))
        for values in zip(*(given[name] for name in weights), strict=True)
    ]


def summary(replies: Sequence[Reply], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the mean total and each mean reward with its 95 % interval over prompts."""
    return {
        **over_prompts(replies, [reply.total for reply in replies]),
        "components": {name: over_prompts(replies, [r.rewards[name] for r in replies]) for name in weights},
    }


def gain(before: Sequence[Reply], after: Sequence[Reply]) -> dict[str, Any]:
    """Return by how much the total rose, prompt by prompt, with its 95 % interval."""
    a = _by_prompt(before, [reply.total for reply in before])
    b = _by_prompt(after, [reply.total for reply in after])
    return heldout.interval([y - x for x, y in zip(a, b, strict=True)])


def over_prompts(replies: Sequence[Reply], values: Sequence[float]) -> dict[str, Any]:
    """Return the mean of a value of each reply, with its 95 % interval over prompts."""
    return heldout.interval(_by_prompt(replies, values))


def alike(section: str, replies: Sequence[Reply]) -> ready.Finding | None:
    """Return what is wrong if, prompt by prompt, replies earn the same: training learns from their difference alone."""
    by_prompt: dict[str, set[float]] = {}
    for reply in replies:
        by_prompt.setdefault(reply.id, set()).add(round(reply.total, 6))
    n = len(by_prompt)
    equal = sum(len(found) == 1 for found in by_prompt.values())
    if len(replies) == n or n < FEW or equal <= ALIKE * n:
        return None
    many = f"all of {n}" if equal == n else f"{equal} of {n}"
    cure = f"raise {section}.trainer.temperature, take other rewards, or start from a model that is right now and then"
    text = (
        f"{section}: for {many} held-out prompts every reply earns the same, and nothing is learned from such; {cure}"
    )
    return ready.Finding(text, wrong=equal == n)


def _by_prompt(replies: Sequence[Reply], values: Sequence[float]) -> list[float]:
    # The replies to one prompt are no independent draws: their mean is one value.
    groups: dict[str, list[float]] = {}
    for reply, value in zip(replies, values, strict=True):
        groups.setdefault(reply.id, []).append(value)
    return [fmean(group) for group in groups.values()]


# Settings


def ours(params: Reinforcement, place: Path, weights: Mapping[str, float]) -> dict[str, Any]:
    """Return what every stage sets of TRL's config."""
    return {"output_dir": str(place), "seed": params.seed, "reward_weights": list(weights.values())}


def known(where: str, names: Mapping[str, float], table: Mapping[str, Any]) -> Iterator[ready.Finding]:
    """Yield each weight's name that is in no table of rewards."""
    if not any(names.values()):
        yield ready.wrong(f"params.yaml: {where}: none has a weight; there are {', '.join(table)}")
    for name in names:
        if name not in table:
            near = difflib.get_close_matches(name, table, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(table)}"
            yield ready.wrong(f"params.yaml: {where}.{name}: no such reward; {hint}")


def generations(
    section: str, params: Reinforcement, args: Any, start: str, count: int | None
) -> Iterator[ready.Finding]:
    """Yield what is wrong with how so many prompts are answered in training."""
    replies = args.num_generations
    trainer = f"params.yaml: {section}.trainer"
    whole = max(1, args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps)
    if args.save_strategy == "steps" and args.save_steps % whole:
        yield ready.wrong(
            f"{trainer}.save_steps: must be a multiple of {whole}, the steps of a generation: a "
            "checkpoint between two of them would throw the rest of a batch of replies away"
        )
    if args.eval_strategy != "no":
        yield ready.wrong(f"{trainer}.eval_strategy: {section} evaluates by held_out and watch; remove it")
    longest = params.max_prompt + args.max_completion_length
    most = ready.positions(start)
    if most and longest > most:
        yield ready.wrong(
            f"params.yaml: {section}: max_prompt {params.max_prompt} and max_completion_length "
            f"{args.max_completion_length} are {longest} tokens, the model is made for {most}"
        )
    room = args.vllm_max_model_length
    if args.use_vllm and room and longest > room:
        yield ready.wrong(f"{trainer}.vllm_max_model_length: {room}, a reply may end at {longest}")
    at_once = args.generation_batch_size // replies
    if count is not None and count < at_once:
        yield ready.wrong(
            f"{trainer}: a generation takes {at_once} prompts, there are {count}: TRL would train on "
            "none; lower per_device_train_batch_size or gradient_accumulation_steps"
        )
    yield from ready.plan(section, args, None if count is None else count * replies * args.num_iterations)
    if params.watch.questions > params.held_out:
        yield ready.told(f"watch.questions: there are but {params.held_out} held out")


def sampling(section: str, params: Reinforcement) -> Sampling:
    """Return how TRL's settings sample in training, for the same before and after it."""
    from trl import GRPOConfig

    args = config(GRPOConfig, section, params.trainer, output_dir="unused")
    return msgspec.convert(
        {
            "max_new_tokens": args.max_completion_length,
            "temperature": args.temperature,
            "top_p": args.top_p,
            "repetition_penalty": args.repetition_penalty,
            "no_repeat_ngram_size": 0,
            "batch_size": None if params.engine == "graph" else args.per_device_train_batch_size,
            "seed": params.seed,
        },
        Sampling,
    )


def last(trainer: Any) -> dict[str, float]:
    """Return the last figures that TRL logged of a training."""
    watched = ("reward", "reward_std", "frac_reward_zero_std", "kl", "grad_norm", "completions/mean_length")
    logged = [line for line in trainer.state.log_history if "reward" in line]
    found = logged[-1] if logged else {}
    return {name: round(found[name], 4) for name in watched if name in found}
