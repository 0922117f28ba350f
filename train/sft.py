"""Fine-tune a model on chats, the loss on the reply alone; an interrupted run goes on from its last checkpoint.

training and validation examples (JSONL), a base model → a model or adapter folder with its config, curve, samples and
card, metrics. The variants (plain, reasoning, …) are the keys of the section `sft`.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from schemas import rows
from schemas.faults import Fault
from schemas.params import Count, load
from schemas.record import Example, Row
from train import heldout, launch, ready, watch
from train import model as models
from train.answers import accuracy
from train.card import save
from train.fit import Training, config, fit, loaded
from train.generate import Held, Sampling, generate
from train.workplace import folder, running, workplace

Tokens = Callable[[Sequence[Example], Any], list[dict[str, list[int]]]]
"""From chats and a tokenizer to input_ids and labels of each."""


class SftParams(Training, frozen=True):
    """How one variant is trained."""

    questions: Count
    """Validation questions answered after training: token accuracy says little about answers."""
    sampling: Sampling
    """How they are answered."""


class Sample(Row, frozen=True):
    """A validation question as the trained model answered it."""

    id: str
    prompt: str
    reference: str
    response: str


def dataset(
    examples: Sequence[Example], tokenizer: Any, max_length: int | None, tokens: Tokens = models.tokens
) -> tuple[Any, dict[str, int]]:
    """Return a Dataset of input_ids and labels, and what the length limit does: replies cut, rows that lose theirs.

    A row whose prompt alone fills the limit has nothing to learn from and is left out here, where it is counted; TRL
    would drop it without a word. Fault if none is left.
    """
    from datasets import Dataset

    limit = max_length or 10**9
    made = tokens(examples, tokenizer)
    kept = [row for row in made if any(label != -100 for label in row["labels"][:limit])]
    if not kept:
        raise Fault(f"max_length: {limit} tokens hold no reply to any of the prompts; raise it in params.yaml")
    figures = {
        "rows": len(kept),
        "cut": sum(len(row["input_ids"]) > limit for row in kept),
        "dropped": len(made) - len(kept),
        "tokens": sum(min(len(row["input_ids"]), limit) for row in kept),
    }
    short = [{name: ids[:limit] for name, ids in row.items()} for row in kept]
    return Dataset.from_list(short), figures


def check(
    params: Training,
    section: str,
    start: ready.Start,
    train: ready.Rows[Example],
    validation: ready.Rows[Example],
    anywhere: bool = False,
    tokens: Tokens = models.tokens,
) -> Iterator[ready.Finding]:
    """Yield what is known of a training before its model is loaded; `anywhere` as for `ready.settings`."""
    from trl import SFTConfig

    yield from ready.training(section, params, start)
    given, ours = arguments(params, params.trainer, Path("unused"))
    args, found = ready.settings(SFTConfig, section, given, ours, anywhere)
    yield from found
    if args and not args.packing:
        yield from ready.plan(section, args, len(train.rows) if train.rows is not None else None)
    words = ready.tokenizer(start.path)
    for table, purpose in ((train, "train on"), (validation, "validate on")):
        yield from ready.some(table, purpose)
        silent = [row.id for row in table.rows or () if row.messages[-1].role != "assistant"]
        if silent:
            yield ready.wrong(f"{table.path}: chat {silent[0]!r} does not end with the assistant's reply; add it")
        elif table.rows and args and words:
            outer = ready.outer(table.rows, lambda row: sum(len(message.content) for message in row.messages))
            try:
                _, lengths = dataset(outer, words, args.max_length, tokens)
            except Fault as fault:
                yield ready.wrong(f"{table.path}: {section}.trainer.{fault.message}")
                continue
            if lengths["cut"] or lengths["dropped"]:
                yield ready.told(f"replies in {table.path} are cut at {args.max_length} tokens")


def arguments(params: Training, settings: Mapping[str, Any], place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of a `trainer:` mapping TRL's config is given as it stands, and what the stage sets of it."""
    # Rows come tokenized and cut: TRL need not walk them again, unless it is to pack them.
    prepared = {"skip_prepare_dataset": not settings.get("packing", False), **settings.get("dataset_kwargs", {})}
    ours = {"output_dir": str(place), "seed": params.seed, "data_seed": params.seed, "dataset_kwargs": prepared}
    return {name: value for name, value in settings.items() if name != "dataset_kwargs"}, ours


def trl_config(params: Training, section: str, settings: Mapping[str, Any], place: Path) -> Any:
    """Return TRL's config for a `trainer:` mapping; Fault if TRL refuses it."""
    from trl import SFTConfig

    given, ours = arguments(params, settings, place)
    return config(SFTConfig, section, given, **ours)


def sft(
    params: Training,
    section: str,
    network: Any,
    tokenizer: Any,
    data: tuple[Any, Any],
    place: Path,
    watching: watch.Watching | None = None,
    callbacks: Sequence[Any] = (),
) -> tuple[Any, dict[str, Any]]:
    """Train; return TRL's trainer and the figures. `callbacks` are heard before those of `fit`."""
    from trl import SFTTrainer

    def make(settings: dict[str, Any]) -> Any:
        args = trl_config(params, section, settings, place)
        kind = _scoring_labels_only(SFTTrainer) if args.device.type == "cpu" and args.world_size == 1 else SFTTrainer
        return kind(
            model=network,
            args=args,
            train_dataset=data[0],
            eval_dataset=data[1],
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )

    trainer, figures = fit(make, params.trainer, section.replace(".", "@"), place, watching, evaluate=True)
    figures["eval_loss"] = round(figures.pop("evaluated")["eval_loss"], 4)
    return trainer, figures


def _scoring_labels_only(trainer: Any) -> Any:
    """Return TRL's trainer with a loss that projects onto the vocabulary only the positions that have a label.

    On a GPU TRL does so itself; on a CPU it projects all and does it again backwards, more than half of a small model's
    step. The loss is the same number.
    """
    from torch.nn.functional import cross_entropy

    class Compact(trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            labels = inputs.pop("labels")[:, 1:]
            seen = model.get_decoder()(**inputs, use_cache=False).last_hidden_state[:, :-1]
            labelled = labels != -100
            logits = model.get_output_embeddings()(seen[labelled]).float()
            loss = cross_entropy(logits, labels[labelled], reduction="sum")
            return loss / (labelled.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)

    return Compact


def answered(
    network: Any, tokenizer: Any, examples: Sequence[Example], sampling: Sampling, engine: Held
) -> tuple[list[Sample], list[bool]]:
    """Return the replies to the questions of examples, and whether each gives the letter of its reference."""
    prompts = [example.messages[:-1] for example in examples]
    replies = {n: text for batch in generate(network, tokenizer, prompts, sampling, engine=engine) for n, text in batch}
    samples = [
        Sample(id=e.id, prompt=e.messages[-2].content, reference=e.messages[-1].content, response=replies[n])
        for n, e in enumerate(examples)
    ]
    return samples, [heldout.letter(sample.response) == heldout.letter(sample.reference) for sample in samples]


def watching(params: SftParams, held: Sequence[Example], tokenizer: Any) -> watch.Watching:
    """Return which validation questions are answered on the way, always greedily."""
    questions = watch.chosen(held, params.watch.questions, params.seed)
    sampling = msgspec.structs.replace(params.sampling, temperature=0.0)

    def ask(network: Any, step: int, as_it_was: watch.AsItWas) -> list[watch.Reply]:
        samples, verdicts = answered(network, tokenizer, questions, sampling, params.engine)
        return [
            watch.Reply(step=step, id=sample.id, reply=sample.response, right=right, kl=None)
            for sample, right in zip(samples, verdicts, strict=True)
        ]

    shown = [
        watch.Watched(id=e.id, question=e.messages[-2].content, reference=e.messages[-1].content) for e in questions
    ]
    return watch.Watching(params.watch.every, shown, ask)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("variant")
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("validation", type=click.Path(path_type=Path))
@click.argument("base")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(variant: str, train: Path, validation: Path, base: str, out: Path, metrics: Path) -> None:
    """Train BASE, or the model that sft.VARIANT names instead, on TRAIN; write the model to OUT."""
    section = f"sft.{variant}"
    params = load(section, SftParams)
    start = params.model or base
    models.quiet(local=models.is_local(start))
    given = ready.read(train, Example), ready.read(validation, Example)
    ready.insist(check(params, section, ready.Start(start), *given))
    examples, held = (table.rows or () for table in given)
    launch.launch(params.accelerate, "train.sft", variant, train, validation, base, out, metrics, whole=False)
    place = workplace(f"sft@{variant}", (params, start), [train, validation, Path(start)])
    with running(place):
        network, tokenizer = loaded(params, start)
        limit = trl_config(params, section, params.trainer, place).max_length
        data, lengths = dataset(examples, tokenizer, limit)
        held_data, _ = dataset(held, tokenizer, limit)
        watched = watching(params, held, tokenizer)
        trainer, trained = sft(params, section, network, tokenizer, (data, held_data), place, watched)
        asked = () if launch.sharded() else held[: params.questions]
        samples, verdicts = answered(trainer.model, tokenizer, asked, params.sampling, params.engine)
        figures: dict[str, Any] = {**lengths, **trained, "validation": accuracy(verdicts)}
        with folder(out) as new:
            save(trainer, tokenizer, new, params, f"sft@{variant}", start, figures)
            rows.write(new / "samples.jsonl", samples)
        rows.write_json(metrics, figures)
        shutil.rmtree(place)
    click.echo(
        f"sft@{variant}: {figures['steps']} steps in {figures['seconds']} s, eval loss {figures['eval_loss']}, "
        f"{sum(verdicts)} of {len(verdicts)} validation questions right; {figures['cut']} replies cut, "
        f"{figures['dropped']} rows too long"
    )


if __name__ == "__main__":
    main()
