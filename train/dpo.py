"""Fine-tune a model on preference pairs, and show whether it answers better for it; resumes like `sft`.

a folder of pairs (train.jsonl), a model → a model or adapter folder, metrics with the pairs and the questions held out
of training, before it and after. DPO selects among what the model can already do; it teaches no facts, no arithmetic.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from schemas import rows
from schemas.faults import Fault
from schemas.params import Positive, load
from schemas.record import Example, Letter, Message, Pair, PairType, Prompt, Row
from train import heldout, launch, ready, reference, watch
from train import model as models
from train.answers import accuracy
from train.card import save
from train.fit import Training, config, fit, loaded
from train.generate import Sampling
from train.workplace import folder, last_checkpoint, running, workplace

PAIRS = "train.jsonl"
"""The file of the folder that curation writes; beside it lies the same for another trainer."""

Tokens = dict[str, list[int]]
"""A pair as prompt_ids, chosen_ids and rejected_ids."""


class DpoParams(Training, frozen=True):
    """How the pairs are trained on."""

    types: list[PairType]
    """Of the pairs that are trained on."""
    held_out: Positive
    """Questions kept out of training with all their pairs, answered before and after it."""
    sampling: Sampling
    """How they are answered."""


class Answered(Row, frozen=True):
    """A held-out question as the model answered it before training and after."""

    id: str
    question: str
    reference: Letter
    """What its chosen replies answer."""
    before: str
    after: str


class Said(Row, frozen=True):
    """A reply before training, on its way."""

    text: str


def question(pair: Pair) -> str:
    """Return the id of the question that a pair is about; several pairs are about one."""
    return pair.id.rpartition(".")[0]


def divide(pairs: Sequence[Pair], params: DpoParams) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs to train on, of the types wanted, and all pairs of the held-out questions.

    Ids and seed decide which questions are held out, not the order. Fault if there is nothing to train on.
    """
    every = {question(pair): Example(id=question(pair), messages=(*pair.prompt, *pair.chosen)) for pair in pairs}
    held = {asked.id for asked in watch.chosen(list(every.values()), params.held_out, params.seed)}
    training = [pair for pair in pairs if question(pair) not in held and pair.type in params.types]
    if not training:
        raise Fault(
            f"no pairs of {', '.join(params.types) or 'no type'} to train on (dpo.types) beside {len(held)} of "
            f"{len(every)} questions held out (dpo.held_out)"
        )
    return training, [pair for pair in pairs if question(pair) in held]


def questions(pairs: Sequence[Pair]) -> list[Prompt]:
    """Return each question once, its answer that of a chosen reply; Fault if no chosen reply gives an answer."""
    found: dict[str, Prompt] = {}
    for pair in pairs:
        id = question(pair)
        if id not in found and (answer := heldout.letter(pair.chosen[-1].content)):
            found[id] = Prompt(id=id, prompt=pair.prompt, answer=answer)
    if not found:
        raise Fault("no chosen reply of the held-out questions gives an answer A to D, so none can be right")
    return list(found.values())


def tokens(pairs: Sequence[Pair], tokenizer: Any) -> list[Tokens]:
    """Return the tokens of each pair, as TRL makes them row by row."""

    def whole(replies: Sequence[tuple[Message, ...]]) -> list[dict[str, list[int]]]:
        chats = zip(pairs, replies, strict=True)
        return models.tokens([Example(id=pair.id, messages=(*pair.prompt, *reply)) for pair, reply in chats], tokenizer)

    made = []
    for a, b in zip(whole([p.chosen for p in pairs]), whole([p.rejected for p in pairs]), strict=True):
        start = min(a["labels"].count(-100), b["labels"].count(-100))
        chosen, rejected = a["input_ids"], b["input_ids"]
        made.append({"prompt_ids": chosen[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]})
    return made


def fitting(pairs: Sequence[Pair], tokenizer: Any, max_length: int | None) -> dict[str, Tokens]:
    """Return the tokens of the pairs that are not too long, by id; Fault if none is left.

    TRL would cut the ends of the others, and compare replies without the answers that make the difference.
    """
    limit = max_length or 10**9
    made = {
        pair.id: row
        for pair, row in zip(pairs, tokens(pairs, tokenizer), strict=True)
        if len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= limit
    }
    if not made:
        raise Fault(f"none of the pairs is of at most {limit} tokens; raise dpo.trainer.max_length in params.yaml")
    return made


def gain(asked: Sequence[Prompt], before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    """Return the share of right replies before and after, and by how much it rose, question by question."""
    was, now = (
        [heldout.letter(text) == prompt.answer for prompt, text in zip(asked, replies, strict=True)]
        for replies in (before, after)
    )
    rose = [float(b) - float(a) for a, b in zip(was, now, strict=True)]
    return {"before": accuracy(was), "after": accuracy(now), "gain": heldout.interval(rose)}


def check(
    params: DpoParams, start: ready.Start, pairs: ready.Rows[Pair], anywhere: bool = False
) -> Iterator[ready.Finding]:
    """Yield what is known of a training before its model is loaded; `anywhere` as for `ready.settings`."""
    from trl import DPOConfig

    yield from ready.training("dpo", params, start)
    args, found = ready.settings(DPOConfig, "dpo", params.trainer, ours(params, Path("unused")), anywhere)
    yield from found
    if args and args.sync_ref_model:
        yield ready.wrong("params.yaml: dpo.trainer.sync_ref_model: a run that goes on would lose it; remove it")
    yield from ready.some(pairs, "train on")
    yield from ready.once(pairs)
    training: list[Pair] = []
    words = ready.tokenizer(start.path)
    try:
        if pairs.rows:
            training, held = divide(pairs.rows, params)
            questions(held)
        if args and words and training:
            outer = ready.outer(training, _characters)
            if len(fitting(outer, words, args.max_length)) < len(outer):
                yield ready.told(f"pairs of more than {args.max_length} tokens left out")
    except Fault as fault:
        yield ready.wrong(f"{pairs.path}: {fault.message}")
    if args:
        yield from ready.plan("dpo", args, len(training) or None)


def _characters(pair: Pair) -> int:
    asked = sum(len(message.content) for message in pair.prompt)
    return asked + max(len(pair.chosen[-1].content), len(pair.rejected[-1].content))


def ours(params: DpoParams, place: Path) -> dict[str, Any]:
    """Return what the stage sets of TRL's config."""
    # What was evaluated at the start is in the log of a run that goes on.
    start = last_checkpoint(place) is None
    return {"output_dir": str(place), "seed": params.seed, "data_seed": params.seed, "eval_on_start": start}


def dpo(
    params: DpoParams,
    network: Any,
    tokenizer: Any,
    data: tuple[Sequence[Tokens], Sequence[Tokens]],
    place: Path,
    watching: watch.Watching | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Train; return TRL's trainer and the figures.

    What the model is compared with is always the one that training began with, resumed or out of memory: TRL reads it
    anew from its folder, or copies the adapter, whose weights are those of the start whenever a trainer is made.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):  # type: ignore[misc]
        """TRL would tokenize row by row, which takes ten times as long, and cut what is too long."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    train, held = (Dataset.from_list(list(part)) for part in data)

    def make(settings: dict[str, Any]) -> Any:
        args = config(DPOConfig, "dpo", settings, **ours(params, place))
        reference.forget(network)
        return Tokenized(model=network, args=args, train_dataset=train, eval_dataset=held, processing_class=tokenizer)

    trainer, figures = fit(make, params.trainer, "dpo", place, watching, evaluate=True)
    before = next(line for line in trainer.state.log_history if "eval_loss" in line)
    after = figures.pop("evaluated")
    reference.forget(network)
    return trainer, {**figures, "held_out_pairs": {"n": len(held), "before": _seen(before), "after": _seen(after)}}


def _seen(line: dict[str, float]) -> dict[str, float]:
    # Before training the model is what it is compared with: every reward is 0, and no chosen reply has the greater.
    names = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
    return {name: round(line[f"eval_{name}"], 4) for name in names}


@click.command(help=__doc__.partition("\n")[0])
@click.argument("pairs", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(pairs: Path, model: str, out: Path, metrics: Path) -> None:
    """Train MODEL, or the model that dpo.model names instead, on PAIRS; write it to OUT."""
    params = load("dpo", DpoParams)
    start = params.model or model
    models.quiet(local=models.is_local(start))  # before TRL is imported, which reads the environment
    from trl import DPOConfig

    file = pairs / PAIRS
    every = ready.read(file, Pair).rows or ()
    ready.insist(check(params, ready.Start(start), ready.Rows(file, every)))
    launch.launch(params.accelerate, "train.dpo", pairs, model, out, metrics, whole=True)
    place = workplace("dpo", (params, start), [file, Path(start)])
    with running(place):
        network, tokenizer = loaded(params, start)
        limit = config(DPOConfig, "dpo", params.trainer, **ours(params, place)).max_length
        sides = divide(every, params)
        training, held = (fitting(side, tokenizer, limit) for side in sides)
        asked = questions([pair for pair in sides[1] if pair.id in held])

        def replies(model: Any) -> list[str]:
            return heldout.replies(model, tokenizer, asked, params.sampling, params.engine)

        first = place / "before.jsonl"  # asked once: a run that goes on compares with the same start
        if launch.first() and not first.exists():
            rows.write(first, (Said(text=text) for text in replies(network)))
        watched = heldout.watching(params, asked, tokenizer, params.sampling, temperature=1.0)
        data = list(training.values()), list(held.values())
        trainer, trained = dpo(params, network, tokenizer, data, place, watched)
        before = [said.text for said in rows.read(first, Said)]
        after = replies(trainer.model)
        too_long = sum(map(len, sides)) - sum(map(len, data))
        figures: dict[str, Any] = {"pairs": len(training), "pairs_too_long": too_long, **trained}
        figures["held_out"] = gain(asked, before, after)
        with folder(out) as new:
            save(trainer, tokenizer, new, params, "dpo", start, figures)
            rows.write(new / "samples.jsonl", map(answered, asked, before, after))
        rows.write_json(metrics, figures)
        shutil.rmtree(place)
    told = figures["held_out"]
    low, high = told["gain"]["interval95"]
    click.echo(
        f"dpo: {figures['steps']} steps in {figures['seconds']} s, {told['before']['accuracy']:.3f} → "
        f"{told['after']['accuracy']:.3f} of {len(asked)} held-out questions right, gain [{low:+.3f}, {high:+.3f}]"
    )


def answered(asked: Prompt, before: str, after: str) -> Answered:
    """Return a question with its replies, for the samples."""
    text = asked.prompt[-1].content
    return Answered(id=asked.id, question=text, reference=asked.answer, before=before, after=after)


if __name__ == "__main__":
    main()
