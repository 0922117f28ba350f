"""Reinforce a model by named, weighted rewards, and show whether it raised them; resumes like `sft`.

prompts with their answers (JSONL), a model → a model or adapter folder, metrics with the rewards before and after on
prompts held out of training. GRPO selects among what the model can already do; it teaches no new facts.
"""

import difflib
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.params import Positive, load
from schemas.record import Prompt, Row
from train import model as models
from train import watch
from train.answers import extract
from train.card import save
from train.decode import Drawing, decode
from train.fit import Training, config, fit
from train.generate import Sampling, generate
from train.likelihood import divergence
from train.rewards import REWARDS, ZScore
from train.workplace import folder, workplace

REFERENCE = "ref"
"""TRL's name for its copy of an adapter as it was before training, against which it measures the KL."""


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
    order = sorted(prompts, key=lambda prompt: hashlib.sha256(f"{seed}:{prompt.id}".encode()).digest())
    held = {prompt.id for prompt in order[:held_out]}
    return [prompt for prompt in prompts if prompt.id not in held], order[:held_out]


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
        **interval(_by_prompt(replies, [reply.total for reply in replies])),
        "components": {name: interval(_by_prompt(replies, [r.rewards[name] for r in replies])) for name in weights},
    }


def gain(before: Sequence[Reply], after: Sequence[Reply]) -> dict[str, Any]:
    """Return by how much the total rose, prompt by prompt, with its 95 % interval."""
    a = _by_prompt(before, [reply.total for reply in before])
    b = _by_prompt(after, [reply.total for reply in after])
    return interval([y - x for x, y in zip(a, b, strict=True)])


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return a mean and its normal 95 % interval."""
    mean = fmean(values)
    half = 1.96 * stdev(values) / sqrt(len(values)) if len(values) > 1 else float("inf")
    return {"mean": round(mean, 4), "interval95": [round(mean - half, 4), round(mean + half, 4)]}


def _by_prompt(replies: Sequence[Reply], values: Sequence[float]) -> list[float]:
    # The replies to one prompt are no independent draws: their mean is one value.
    groups: dict[str, list[float]] = {}
    for reply, value in zip(replies, values, strict=True):
        groups.setdefault(reply.id, []).append(value)
    return [fmean(group) for group in groups.values()]


def check(params: GrpoParams) -> None:
    """Fault for a reward nobody has written."""
    for name in params.rewards:
        if name not in REWARDS:
            near = difflib.get_close_matches(name, REWARDS, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(REWARDS)}"
            raise Fault(f"params.yaml: grpo.rewards.{name}: no such reward; {hint}")


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
    ours = {"output_dir": str(place), "seed": params.seed, "reward_weights": list(params.rewards.values())}

    def make(settings: dict[str, Any]) -> Any:
        args = config(GRPOConfig, "grpo", settings, **ours)
        forget_reference(network)
        # A checkpoint between two generations would throw the rest of a batch of replies away when it is resumed.
        whole = max(1, args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps)
        if args.save_strategy == "steps" and args.save_steps % whole:
            raise Fault(
                f"params.yaml: grpo.trainer.save_steps: must be a multiple of {whole}, the steps of a generation"
            )
        kind = _faster(GRPOTrainer, params.engine)
        return kind(model=network, reward_funcs=rewards, args=args, train_dataset=data, processing_class=tokenizer)

    trainer, figures = fit(make, params.trainer, "grpo", place, watching)
    forget_reference(network)
    watched = ("reward", "reward_std", "frac_reward_zero_std", "kl", "grad_norm", "completions/mean_length")
    logged = [line for line in trainer.state.log_history if "reward" in line]
    last = logged[-1] if logged else {}
    return trainer, {**figures, "last": {name: round(last[name], 4) for name in watched if name in last}}


def _faster(trainer: Any, engine: str) -> Any:
    """Return TRL's trainer with replies from `decode`, where asked for, and rows of like length trained side by side.

    Replies come from the same distribution: the adapter is merged into the weights, and no dropout is drawn, as TRL
    does. The order of rows within one step of the optimizer changes nothing but the padding that is computed.
    """

    class Faster(trainer):  # type: ignore[misc]
        def _generate_single_turn(self, prompt_ids: Any, *rest: Any, **more: Any) -> Any:
            if engine != "graph":
                return super()._generate_single_turn(prompt_ids, *rest, **more)
            model = self.accelerator.unwrap_model(self.model_wrapped)
            drawing = Drawing(
                max_new_tokens=self.max_completion_length,
                temperature=self.temperature,
                top_p=self.top_p,
                repetition_penalty=self.repetition_penalty,
                no_repeat_ngram_size=0,
            )
            return decode(model, prompt_ids, drawing, set(self.eos_token_ids), self._tokenizer.pad_token_id), None

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            before = self._buffered_inputs
            inputs = super()._prepare_inputs(generation_batch)
            one_step = self.args.steps_per_generation == self.args.gradient_accumulation_steps
            # bnpo divides each batch's loss by that batch's own tokens: there the rows of a batch matter.
            if self._buffered_inputs is not before and one_step and self.loss_type != "bnpo":
                self._buffered_inputs = by_length(self._buffered_inputs)
                inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
            return inputs

    return Faster


def by_length(batches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same rows in batches of the same sizes, sorted by length, each padded no further than it needs.

    A batch has prompts of (B, P), padded on the left, completions of (B, C), padded on the right, and whatever else has
    a row each; values without rows are the same in all batches.
    """
    import torch

    sizes = [len(batch["prompt_ids"]) for batch in batches]
    columns = [name for name, value in batches[0].items() if isinstance(value, torch.Tensor) and value.dim()]
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in columns}
    lengths = whole["completion_mask"].sum(1)
    prompts, completions = whole["prompt_ids"].shape[1], whole["completion_ids"].shape[1]
    made = []
    for batch, chosen in zip(batches, lengths.argsort(stable=True).split(sizes), strict=True):
        prompt = int(whole["prompt_mask"][chosen].sum(1).max())
        completion = max(1, int(lengths[chosen].max()))
        cut = {}
        for name in columns:
            value = whole[name][chosen]
            if name in ("prompt_ids", "prompt_mask"):
                value = value[:, prompts - prompt :]
            elif value.dim() == 2 and value.shape[1] == completions:
                value = value[:, :completion]
            cut[name] = value
        made.append({**batch, **cut})
    return made


def forget_reference(network: Any) -> None:
    """Remove TRL's copy of the adapter: a second trainer refuses a model that has one, and it is not to be saved."""
    if REFERENCE in getattr(network, "peft_config", {}):
        network.delete_adapter(REFERENCE)


def watching(params: GrpoParams, held: Sequence[Prompt], tokenizer: Any, sampling: Sampling) -> watch.Watching:
    """Return which held-out prompts are answered greedily on the way, each reply with its distance from the start."""
    questions = watch.chosen(held, params.watch.questions, params.seed)
    asked = [prompt.prompt for prompt in questions]
    greedy = msgspec.structs.replace(sampling, temperature=0.0)

    def ask(network: Any, step: int, as_it_was: watch.AsItWas) -> list[watch.Reply]:
        found = {n: text for batch in generate(network, tokenizer, asked, greedy) for n, text in batch}
        replies = [found[n] for n in range(len(asked))]
        kl = divergence(network, tokenizer, asked, replies, sampling.temperature, as_it_was)
        return [
            watch.Reply(step=step, id=prompt.id, reply=reply, right=_letter(reply) == prompt.answer, kl=far)
            for prompt, reply, far in zip(questions, replies, kl, strict=True)
        ]

    shown = [watch.Watched(id=p.id, question=p.prompt[-1].content, reference=p.answer) for p in questions]
    return watch.Watching(params.watch.every, shown, ask)


def _letter(text: str) -> str | None:
    found = extract(text)
    return found[0] if found else None


@click.command(help=__doc__.partition("\n")[0])
@click.argument("prompts", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(prompts: Path, model: str, out: Path, metrics: Path) -> None:
    """Train MODEL, or the model that grpo.model names instead, on PROMPTS; write it to OUT."""
    params = load("grpo", GrpoParams)
    check(params)
    start = params.model or model
    place = workplace("grpo", (params, start), [prompts, Path(start)])
    with watch.running(place):
        models.quiet(local=models.is_local(start))
        network, tokenizer = models.load(
            params, start, train=True, seed=params.seed, cpu=bool(params.trainer.get("use_cpu", False))
        )
        every = list(rows.read(prompts, Prompt))
        asked = models.token_ids(tokenizer, models.asking([prompt.prompt for prompt in every], tokenizer))
        fitting = [prompt for prompt, ids in zip(every, asked, strict=True) if len(ids) <= params.max_prompt]
        training, held = divide(fitting, params.held_out, params.seed)
        if len(training) < 2 or not held:
            raise Fault(f"{prompts}: {len(fitting)} prompts of at most {params.max_prompt} tokens, too few to train on")
        sampling = _sampling(params)

        def sampled(network: Any) -> list[Reply]:
            asked = [prompt.prompt for prompt in held for _ in range(params.samples)]
            replies = {n: text for batch in generate(network, tokenizer, asked, sampling) for n, text in batch}
            return judged(held, params.samples, replies, tokenizer, params.rewards)

        first = (
            place / "before.jsonl"
        )  # sampled once: a run that goes on from a checkpoint compares with the same start
        if not first.exists():
            rows.write(first, sampled(network))
        before = list(rows.read(first, Reply))
        watched = watching(params, held, tokenizer, sampling)
        trainer, figures = grpo(params, network, tokenizer, training, place, watched)
        after = sampled(trainer.model)
        figures = {
            "prompts": len(training),
            "prompts_too_long": len(every) - len(fitting),
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
            "batch_size": args.per_device_train_batch_size,
            "seed": params.seed,
        },
        Sampling,
    )


if __name__ == "__main__":
    main()
