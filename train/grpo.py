"""Reinforce a model by named, weighted rewards, and show whether it raised them; resumes like `sft`.

prompts with their answers (JSONL), a model → a model or adapter folder, metrics with the rewards before and after on
prompts held out of training. GRPO selects among what the model can already do; it teaches no new facts.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from schemas.faults import Fault
from schemas.params import load
from schemas.record import Prompt
from train import heldout, launch, ready, reference, reinforce, watch
from train import model as models
from train.fit import config, fit
from train.generate import generate
from train.reinforce import Course, Reinforcement, Reply
from train.rewards import REWARDS, Windows, ZScore
from train.rollout import faster
from train.workplace import workplace


class GrpoParams(Reinforcement, frozen=True):
    """What is rewarded and how it is trained."""

    rewards: dict[str, float]
    """Weights by name; the names are the keys of REWARDS."""
    z_score: bool
    """Each reward as its distance from the mean of its last 1,000, so that rewards of unlike spread weigh alike."""


def fitting(prompts: Sequence[Prompt], tokenizer: Any, params: GrpoParams) -> list[Prompt]:
    """Return the prompts that are not too long; Fault if they are too few."""
    ids = models.token_ids(tokenizer, models.asking([prompt.prompt for prompt in prompts], tokenizer))
    return reinforce.fitting("grpo", prompts, list(map(len, ids)), params)


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
        Reply(id=prompt.id, response=text, rewards={name: given[name][n] for name in weights}, total=total)
        for n, (prompt, text, total) in enumerate(zip(of, replies, reinforce.totals(given, weights), strict=True))
    ]


def check(
    params: GrpoParams, start: ready.Start, prompts: ready.Rows[Prompt], anywhere: bool = False
) -> Iterator[ready.Finding]:
    """Yield what is known of a training before its model is loaded; `anywhere` as for `ready.settings`."""
    from trl import GRPOConfig

    yield from reinforce.known("grpo.rewards", params.rewards, REWARDS)
    yield from ready.training("grpo", params, start)
    fixed = reinforce.ours(params, Path("unused"), params.rewards)
    args, found = ready.settings(GRPOConfig, "grpo", params.trainer, fixed, anywhere)
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
        left = None if count is None else count - params.held_out
        yield from reinforce.generations("grpo", params, args, start.path, left)


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

    def make(settings: dict[str, Any]) -> Any:
        args = config(GRPOConfig, "grpo", settings, **reinforce.ours(params, place, params.rewards))
        reference.forget(network)
        kind = faster(GRPOTrainer, params.engine)
        return kind(model=network, reward_funcs=rewards, args=args, train_dataset=data, processing_class=tokenizer)

    trainer, figures = fit(make, params.trainer, "grpo", place, watching, Windows(rewards))
    reference.forget(network)
    return trainer, {**figures, "last": reinforce.last(trainer)}


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

    def course(network: Any, tokenizer: Any) -> Course[Reply]:
        kept = fitting(every, tokenizer, params)
        training, held = reinforce.divide(kept, params.held_out, params.seed)
        sampling = reinforce.sampling("grpo", params)

        def ask(network: Any) -> list[Reply]:
            asked = [prompt.prompt for prompt in held for _ in range(params.samples)]
            made = generate(network, tokenizer, asked, sampling, engine=params.engine)
            replies = {n: text for batch in made for n, text in batch}
            return judged(held, params.samples, replies, tokenizer, params.rewards)

        watched = heldout.watching(params, held, tokenizer, sampling, sampling.temperature)
        return Course(
            held=len(held),
            row=Reply,
            ask=ask,
            train=lambda: grpo(params, network, tokenizer, training, place, watched),
            prompts={"prompts": len(training), "prompts_too_long": len(every) - len(kept)},
            more=lambda before, after: {},
        )

    reinforce.run("grpo", params, params.rewards, start, place, out, metrics, course)


if __name__ == "__main__":
    main()
