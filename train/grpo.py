"""Reinforce a model by named, weighted rewards, and show whether it raised them; resumes like `sft`.

prompts with their answers (JSONL), a model → a model or adapter folder, metrics with the rewards before and after on
prompts held out of training. GRPO selects among what the model can already do; it teaches no new facts.
"""

import difflib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.params import Positive, load
from schemas.record import Prompt, Row
from train import heldout, launch, ready, reference, watch
from train import model as models
from train.card import save
from train.compiled import compile_layers
from train.fit import Training, config, fit
from train.generate import Sampling, generate
from train.rewards import REWARDS, ZScore
from train.rollout import faster
from train.workplace import folder, running, workplace

FEW = 16
"""Held-out prompts from which on it counts that the replies to none of them differ in what they earn."""
ALIKE = 0.9
"""Share of them with equal rewards above which a training is warned of."""


class GrpoParams(Training, frozen=True):
    """What is rewarded and how it is trained."""

    engine: Literal["transformers", "graph"]
    """What replies; vLLM comes by `use_vllm` in `trainer`."""
    rewards: dict[str, float]
    """Weights by name; the names are the keys of REWARDS."""
    z_score: bool
    """Each reward as its distance from the mean of its last 1,000, so that rewards of unlike spread weigh alike."""
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


def divide(prompts: Sequence[Prompt], held_out: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Return the prompts to train on and those held out; which are is decided by id and seed, not by order."""
    held = watch.chosen(prompts, held_out, seed)
    ids = {prompt.id for prompt in held}
    return [prompt for prompt in prompts if prompt.id not in ids], held


def fitting(prompts: Sequence[Prompt], tokenizer: Any, params: GrpoParams) -> list[Prompt]:
    """Return the prompts that are not too long; Fault if they are too few to train on, some of them held out."""
    ids = models.token_ids(tokenizer, models.asking([prompt.prompt for prompt in prompts], tokenizer))
    found = [prompt for prompt, one in zip(prompts, ids, strict=True) if len(one) <= params.max_prompt]
    if len(found) < params.held_out + 2:
        raise Fault(
            f"{len(found)} prompts of at most {params.max_prompt} tokens (grpo.max_prompt), too few to train on with "
            f"{params.held_out} of them held out (grpo.held_out)"
        )
    return found


def judged(
    prompts: Sequence[Prompt], samples: int, texts: Mapping[int, str], tokenizer: Any, weights: Mapping[str, float]
) -> list[Reply]:
    """Return every reply with its rewards; reply n belongs to prompt n // samples."""
    of = [prompts[n // samples] for n in range(len(texts))]
    replies = [texts[n] for n in range(len(texts))]
    columns = {
        "completions": [[{"role": "assistant", "content": text}] for text in replies],
        "completion_ids": tokenizer(replies, add_special_tokens=False)["input_ids"],
        "answer": [prompt.answer for prompt in of],
    }
    given = {name: REWARDS[name](**columns) for name in weights}
    return [
        Reply(
            id=prompt.id,
            response=text,
            rewards={name: given[name][n] for name in weights},
            total=sum(weight * given[name][n] for name, weight in weights.items()),
        )
        for n, (prompt, text) in enumerate(zip(of, replies, strict=True))
    ]


def summary(replies: Sequence[Reply], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the mean total and each mean reward with its 95 % interval over prompts."""
    return {
        **heldout.interval(_by_prompt(replies, [reply.total for reply in replies])),
        "components": {
            name: heldout.interval(_by_prompt(replies, [r.rewards[name] for r in replies])) for name in weights
        },
    }


def gain(before: Sequence[Reply], after: Sequence[Reply]) -> dict[str, Any]:
    """Return by how much the total rose, prompt by prompt, with its 95 % interval."""
    a = _by_prompt(before, [reply.total for reply in before])
    b = _by_prompt(after, [reply.total for reply in after])
    return heldout.interval([y - x for x, y in zip(a, b, strict=True)])


def alike(replies: Sequence[Reply]) -> ready.Finding | None:
    """Return what is wrong if, prompt by prompt, replies earn the same: training learns from their difference alone."""
    totals: dict[str, set[float]] = {}
    for reply in replies:
        totals.setdefault(reply.id, set()).add(round(reply.total, 6))
    n = len(totals)
    equal = sum(len(found) == 1 for found in totals.values())
    if len(replies) == n or n < FEW or equal <= ALIKE * n:
        return None
    many = f"all of {n}" if equal == n else f"{equal} of {n}"
    cure = "raise grpo.trainer.temperature, take other grpo.rewards, or start from a model that is right now and then"
    text = f"grpo: for {many} held-out prompts every reply earns the same, and nothing is learned from such; {cure}"
    return ready.Finding(text, wrong=equal == n)


def _by_prompt(replies: Sequence[Reply], values: Sequence[float]) -> list[float]:
    # The replies to one prompt are no independent draws: their mean is one value.
    groups: dict[str, list[float]] = {}
    for reply, value in zip(replies, values, strict=True):
        groups.setdefault(reply.id, []).append(value)
    return [fmean(group) for group in groups.values()]


def check(
    params: GrpoParams, start: ready.Start, prompts: ready.Rows[Prompt], anywhere: bool = False
) -> Iterator[ready.Finding]:
    """Yield what is known of a training before its model is loaded; `anywhere` as for `ready.settings`."""
    from trl import GRPOConfig

    yield from _known(params.rewards)
    yield from ready.training("grpo", params, start)
    args, found = ready.settings(GRPOConfig, "grpo", params.trainer, ours(params, Path("unused")), anywhere)
    yield from found
    yield from ready.some(prompts, "train on")
    yield from ready.once(prompts)
    words = ready.tokenizer(start.path)
    count = len(prompts.rows) if prompts.rows is not None else None
    if words and prompts.rows:
        try:
            count = len(fitting(prompts.rows, words, params))
        except Fault as fault:
            yield ready.wrong(f"{prompts.path}: {fault.message}")
            return
        if count < len(prompts.rows):
            yield ready.told(f"{len(prompts.rows) - count} prompts of more than {params.max_prompt} tokens left out")
    if args:
        yield from _generations(params, args, start.path, None if count is None else count - params.held_out)


def ours(params: GrpoParams, place: Path) -> dict[str, Any]:
    """Return what the stage sets of TRL's config."""
    return {"output_dir": str(place), "seed": params.seed, "reward_weights": list(params.rewards.values())}


def _known(names: Mapping[str, float]) -> Iterator[ready.Finding]:
    """Yield each reward that nobody has written."""
    if not any(names.values()):
        yield ready.wrong(f"params.yaml: grpo.rewards: none has a weight; there are {', '.join(REWARDS)}")
    for name in names:
        if name not in REWARDS:
            near = difflib.get_close_matches(name, REWARDS, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(REWARDS)}"
            yield ready.wrong(f"params.yaml: grpo.rewards.{name}: no such reward; {hint}")


def _generations(params: GrpoParams, args: Any, start: str, count: int | None) -> Iterator[ready.Finding]:
    """Yield what is wrong with how so many prompts are answered in training."""
    replies = args.num_generations
    whole = max(1, args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps)
    if args.save_strategy == "steps" and args.save_steps % whole:
        yield ready.wrong(
            f"params.yaml: grpo.trainer.save_steps: must be a multiple of {whole}, the steps of a generation: a "
            "checkpoint between two of them would throw the rest of a batch of replies away"
        )
    if args.eval_strategy != "no":
        yield ready.wrong("params.yaml: grpo.trainer.eval_strategy: grpo evaluates by held_out and watch; remove it")
    longest = params.max_prompt + args.max_completion_length
    most = ready.positions(start)
    if most and longest > most:
        yield ready.wrong(
            f"params.yaml: grpo: max_prompt {params.max_prompt} and max_completion_length "
            f"{args.max_completion_length} are {longest} tokens, the model is made for {most}"
        )
    room = args.vllm_max_model_length
    if args.use_vllm and room and longest > room:
        yield ready.wrong(f"params.yaml: grpo.trainer.vllm_max_model_length: {room}, a reply may end at {longest}")
    at_once = args.generation_batch_size // replies
    if count is not None and count < at_once:
        yield ready.wrong(
            f"params.yaml: grpo.trainer: a generation takes {at_once} prompts, there are {count}: TRL would train on "
            "none; lower per_device_train_batch_size or gradient_accumulation_steps"
        )
    yield from ready.plan("grpo", args, None if count is None else count * replies * args.num_iterations)
    if params.watch.questions > params.held_out:
        yield ready.told(f"watch.questions: there are but {params.held_out} held out")


def grpo(
    params: GrpoParams,
    network: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    place: Path,
    watching: watch.Watching | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Train; return TRL's trainer and the figures."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    data = Dataset.from_list([{"prompt": models.as_dicts(p.prompt), "answer": p.answer} for p in prompts])
    rewards = [ZScore(REWARDS[name]) if params.z_score else REWARDS[name] for name in params.rewards]
    windows = {reward.__name__: reward.seen for reward in rewards if isinstance(reward, ZScore)}

    def make(settings: dict[str, Any]) -> Any:
        args = config(GRPOConfig, "grpo", settings, **ours(params, place))
        reference.forget(network)
        kind = faster(GRPOTrainer, params.engine)
        return kind(model=network, reward_funcs=rewards, args=args, train_dataset=data, processing_class=tokenizer)

    trainer, figures = fit(make, params.trainer, "grpo", place, watching, windows)
    reference.forget(network)
    watched = ("reward", "reward_std", "frac_reward_zero_std", "kl", "grad_norm", "completions/mean_length")
    logged = [line for line in trainer.state.log_history if "reward" in line]
    last = logged[-1] if logged else {}
    return trainer, {**figures, "last": {name: round(last[name], 4) for name in watched if name in last}}


@click.command(help=__doc__.partition("\n")[0])
@click.argument("prompts", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(prompts: Path, model: str, out: Path, metrics: Path) -> None:
    """Train MODEL, or the model that grpo.model names instead, on PROMPTS; write it to OUT."""
    params = load("grpo", GrpoParams)
    start = params.model or model
    models.quiet(local=models.is_local(start))
    every = ready.read(prompts, Prompt).rows or ()
    ready.insist(check(params, ready.Start(start), ready.Rows(prompts, every)))
    launch.launch(params.accelerate, "train.grpo", prompts, model, out, metrics, whole=True)
    place = workplace("grpo", (params, start), [prompts, Path(start)])
    with running(place):
        cpu = bool(params.trainer.get("use_cpu", False))
        network, tokenizer = models.load(params, start, train=True, seed=params.seed, cpu=cpu)
        if params.compile:
            compile_layers(network)
        kept = fitting(every, tokenizer, params)
        training, held = divide(kept, params.held_out, params.seed)
        sampling = _sampling(params)

        def sampled(network: Any) -> list[Reply]:
            asked = [prompt.prompt for prompt in held for _ in range(params.samples)]
            made = generate(network, tokenizer, asked, sampling, engine=params.engine)
            replies = {n: text for batch in made for n, text in batch}
            return judged(held, params.samples, replies, tokenizer, params.rewards)

        first = place / "before.jsonl"  # sampled once: a run that goes on compares with the same start
        if launch.first() and not first.exists():
            rows.write(first, sampled(network))
        before = list(rows.read(first, Reply)) if launch.first() else []
        if found := alike(before):
            ready.insist([found])
            click.echo(found.text)
        watched = heldout.watching(params.watch, params.seed, held, tokenizer, sampling, sampling.temperature)
        trainer, figures = grpo(params, network, tokenizer, training, place, watched)
        after = sampled(trainer.model)
        figures = {
            "prompts": len(training),
            "prompts_too_long": len(every) - len(kept),
            "reward_before": summary(before, params.rewards),
            "reward_after": summary(after, params.rewards),
            "reward_gain": gain(before, after),
            **figures,
        }
        with folder(out) as new:
            save(trainer, tokenizer, new, params, "grpo", start, figures)
            rows.write(new / "samples.jsonl", after)
        rows.write_json(metrics, figures)
        shutil.rmtree(place)
    low, high = figures["reward_gain"]["interval95"]
    click.echo(
        f"grpo: {figures['steps']} steps in {figures['seconds']} s, reward {figures['reward_before']['mean']:.3f} → "
        f"{figures['reward_after']['mean']:.3f} on {len(held)} held-out prompts, gain [{low:+.3f}, {high:+.3f}]"
    )


def _sampling(params: GrpoParams) -> Sampling:
    """Return how TRL's settings sample in training, for the same before and after it."""
    from trl import GRPOConfig

    args = config(GRPOConfig, "grpo", params.trainer, output_dir="unused")
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


if __name__ == "__main__":
    main()
