"""Teach an author by a teacher: what it writes is judged and improved, it learns from what comes back, round by round.

training and validation chats (JSONL), commissions, the author so far → a model or adapter folder, metrics.

`method: rounds` asks a teacher at an endpoint through datagen, as `train.author.rounds` says; all rounds are one
training, with one schedule and one curve, and the rows of a round are laid out in the order of its steps, so that an
interrupted run goes on at the round and the step where it was. `method: on_policy` has a model of the same tokens at
hand: the author writes, and its distributions are drawn to those of the teacher at each token, by TRL.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import click
import msgspec
from msgspec import Meta

from schemas import chat, rows
from schemas.faults import Fault
from schemas.params import ImproveParams, JudgeParams, Positive, VaryParams, load, nearest
from schemas.record import Commission, Example, Row
from train import author_sft, heldout, ready, reinforce, sft, watch
from train import model as models
from train.author import rounds, writing
from train.author.alike import Seen, taught
from train.author.rounds import Round
from train.author.writing import Written
from train.author_sft import AuthorSftParams
from train.card import save
from train.fit import config, fit, loaded
from train.likelihood import apart
from train.workplace import folder, last_checkpoint, running, workplace

SECTION = "author_distill"
SEEDS = 100_000
"""Seeds of drawn replies from one round to the next."""


class AuthorDistillParams(AuthorSftParams, frozen=True):
    """How the author learns from a teacher; `questions` are those that it writes a round, in each way."""

    method: Literal["rounds", "on_policy"]
    held_out: Positive
    """Commissions kept out of training, given to it before and after."""
    samples: Positive
    """Questions for each of them, in each way."""
    rounds: Positive
    """They divide `trainer.max_steps`."""
    keep: Annotated[float, Meta(ge=1, le=5)]
    """Mean of the five marks from which a question of its own is learned as it is."""
    replay: Annotated[float, Meta(ge=0, lt=1)]
    """Share of the rows of a step that are drawn from the training chats, so that nothing is forgotten."""
    times: Positive
    """How often a round teaches a row at most; if they are too few then, more is replayed."""
    judge: JudgeParams
    improve: ImproveParams
    vary: VaryParams
    vary_every: Positive
    """Rounds: every so many, what came out well is varied too."""
    local_teacher: str | None
    """For `on_policy`: the folder of a model with the author's tokenizer."""


class Task(NamedTuple):
    """A training, its model loaded."""

    params: AuthorDistillParams
    name: str
    """The author's, in its records."""
    place: Path
    chats: Sequence[Example]
    validation: Sequence[Example]
    told: Sequence[Commission]
    """Commissions that it is given in training."""
    held: Sequence[Commission]
    """Those that it is given before and after."""
    network: Any
    tokenizer: Any
    watched: watch.Watching
    words: chat.Words
    """How params.yaml names the cells."""


class Near(Written, frozen=True):
    """A reply to a held-out commission and how far the author is from the teacher on it."""

    divergence: float
    """Nats a token."""


Fitting = Callable[[Sequence[Example]], list[Example]]
Learned = tuple[Any, dict[str, Any], Sequence[Row]]
"""TRL's trainer, the figures, what is written after."""


def check(
    params: AuthorDistillParams,
    start: ready.Start,
    train: ready.Rows[Example],
    validation: ready.Rows[Example],
    commissions: ready.Rows[Commission],
    teachers: Mapping[str, Any],
    anywhere: bool = False,
) -> Iterator[ready.Finding]:
    """Yield what is known of a training before a model is loaded or a teacher asked; `anywhere` as ever."""
    where = f"params.yaml: {SECTION}"
    if params.accelerate:
        yield ready.wrong(f"{where}.accelerate: one process writes, asks and learns; null")
    yield from author_sft.check_writing(params, SECTION, start, commissions)
    if commissions.rows and len(commissions.rows) <= params.held_out:
        yield ready.wrong(f"{where}.held_out: {params.held_out}, but there are {len(commissions.rows)} commissions")
    yield from CHECKS[params.method](params, start, train, validation, commissions, teachers, anywhere)


def _check_rounds(
    params: AuthorDistillParams,
    start: ready.Start,
    train: ready.Rows[Example],
    validation: ready.Rows[Example],
    commissions: ready.Rows[Commission],
    teachers: Mapping[str, Any],
    anywhere: bool,
) -> Iterator[ready.Finding]:
    where = f"params.yaml: {SECTION}"
    yield from sft.check(params, SECTION, start, train, validation, anywhere, writing.tokens)
    if params.local_teacher:
        yield ready.wrong(f"{where}.local_teacher: is for method on_policy; rounds ask judge.teacher; null")
    for kind in ("judge", "improve", "vary"):
        name = getattr(params, kind).teacher
        if name not in teachers:
            yield ready.wrong(f"{where}.{kind}.teacher: no teacher '{name}'; {nearest(name, teachers, 'teachers')}")
    steps = params.trainer.get("max_steps", -1)
    if steps < 1 or steps % params.rounds:
        yield ready.wrong(
            f"{where}.trainer.max_steps: {steps} steps are not {params.rounds} equal rounds; take a multiple of it"
        )
    for name, why in SET_BY_ROUNDS.items():
        if params.trainer.get(name):
            yield ready.wrong(f"{where}.trainer.{name}: {why}; remove it")


def _check_on_policy(
    params: AuthorDistillParams,
    start: ready.Start,
    train: ready.Rows[Example],
    validation: ready.Rows[Example],
    commissions: ready.Rows[Commission],
    teachers: Mapping[str, Any],
    anywhere: bool,
) -> Iterator[ready.Finding]:
    from trl import DistillationConfig

    where = f"params.yaml: {SECTION}"
    yield from ready.training(SECTION, params, start)
    args, found = ready.settings(DistillationConfig, SECTION, params.trainer, _ours(params, Path("unused")), anywhere)
    yield from found
    if args:
        yield from ready.plan(SECTION, args, None)
    if args and args.max_steps < 1:
        yield ready.wrong(f"{where}.trainer.max_steps: how many steps, of prompts that come again and again; add it")
    if not params.local_teacher:
        yield ready.wrong(f"{where}.local_teacher: null; on_policy needs a model at hand, its folder")
        return
    yield from ready.model(ready.Start(params.local_teacher))
    own, other = ready.tokenizer(start.path), ready.tokenizer(params.local_teacher)
    if own and other and own.get_vocab() != other.get_vocab():
        yield ready.wrong(
            f"{where}.local_teacher: {params.local_teacher} has other tokens than {start.path}; take a teacher of the "
            "same family, or method rounds"
        )


def _ours(params: AuthorDistillParams, place: Path) -> dict[str, Any]:
    return {"output_dir": str(place), "seed": params.seed, "shuffle_dataset": False}


# By rounds


def by_rounds(task: Task) -> Learned:
    """Let the author write, a teacher judge and improve, and the author learn from it, so many times over."""
    params, place = task.params, task.place
    args = sft.trl_config(params, SECTION, params.trainer, place)
    steps = args.max_steps // params.rounds
    count = steps * args.per_device_train_batch_size * args.gradient_accumulation_steps
    fitting = _fitting(task, args.max_length)
    replay = fitting(task.chats)
    validation, _ = sft.dataset(task.validation, task.tokenizer, args.max_length, writing.tokens)
    before = _held(task, Round(place / "before"))
    found = last_checkpoint(place)
    # What was trained on to the last step has its files, and is built once more, for the trainer's sake.
    done = min(int(found.name.partition("-")[2]) // steps if found else 0, params.rounds - 1)
    told = [rounds.figures(Round(place / f"round-{n + 1}")) for n in range(done)]
    seconds, first = 0.0, None
    for n in range(done, params.rounds):
        of = Round(place / f"round-{n + 1}")
        order = watch.chosen(task.told, len(task.told), params.seed + n)
        _written(task, of, list(islice(cycle(order), params.questions)), params.seed + SEEDS * (n + 1))
        _asked(task, of, n + 1)
        _laid_out(task, of, fitting, replay, count, random.Random(f"{params.seed}:{n}"))
        told.append(rounds.figures(of))
        click.echo(f"{SECTION}: round {n + 1} of {params.rounds}: {_said(told[-1])}")
        data, _ = sft.dataset(of.read("rows", Example), task.tokenizer, args.max_length, writing.tokens)
        trainer, figures = _trained(task, data, validation, steps)
        seconds, first = seconds + figures["seconds"], figures["resumed_at"] if first is None else first
    after = _held(task, Round(place / "after"))
    figures |= {
        "resumed_at": first,
        "seconds": round(seconds, 1),
        "steps_per_second": round((figures["steps"] - (first or 0)) / seconds, 3),
        "rounds": told,
        "before": rounds.summary(before),
        "after": rounds.summary(after),
        "gain": rounds.gain(before, after),
    }
    return trainer, figures, after


def _held(task: Task, of: Round) -> list[rounds.Sample]:
    """Return what the author writes to the held-out commissions, and the teacher's marks."""
    given = [commission for commission in task.held for _ in range(task.params.samples)]
    _written(task, of, given, task.params.seed)
    of.ask(SECTION, "judge", "judged", "records")
    return rounds.samples(of, {commission.id: commission for commission in given}, task.name)


def _written(task: Task, of: Round, given: Sequence[Commission], seed: int) -> None:
    """Have the author write in each way, once, so that a run that goes on asks the same."""
    params = task.params
    sampling = msgspec.structs.replace(params.sampling, seed=seed)

    def replies() -> list[Written]:
        put = partial(writing.written, task.network, task.tokenizer, given, sampling)
        return [one for way in params.thinking for one in put(way, params.engine)]

    of.once("written", replies)
    by_id = {commission.id: commission for commission in given}
    of.once("records", lambda: rounds.records(of.read("written", Written), by_id, task.name))


def _asked(task: Task, of: Round, number: int) -> None:
    """Have the teacher judge and improve what was sent to him, and now and then vary what came out well."""
    of.ask(SECTION, "judge", "judged", "records")
    of.ask(SECTION, "improve", "improved", "records", "judged")
    of.once("finished", lambda: rounds.finished(of, task.params.keep))
    if number % task.params.vary_every == 0:
        of.ask(SECTION, "vary", "varied", "finished")


def _laid_out(
    task: Task, of: Round, fitting: Fitting, replay: Sequence[Example], count: int, draw: random.Random
) -> None:
    """Lay out the rows that a round is trained on; of nothing to learn from, those that are replayed alone."""
    params = task.params

    def in_order() -> list[Example]:
        made = rounds.lessons(of, task.words, params.thinking, draw)
        fresh = fitting(made)
        rows.write_json(of.folder / "lessons.json", {"lessons": len(made), "too_long": len(made) - len(fresh)})
        if not fresh and not params.replay:
            raise Fault(
                f"{SECTION}: {of.folder.name}: of {len(of.read('written', Written))} questions there is none to learn "
                "from; train the author longer before, lower keep, or let it replay"
            )
        again = replay if params.replay else ()
        return rounds.drawn(fresh, again, count, params.replay, params.times, draw)

    of.once("rows", in_order)


def _fitting(task: Task, limit: int | None) -> Fitting:
    """Return what leaves out chats of more tokens: a question that is cut off is none to learn from."""

    def fitting(examples: Sequence[Example]) -> list[Example]:
        made = writing.tokens(examples, task.tokenizer)
        return [e for e, row in zip(examples, made, strict=True) if len(row["input_ids"]) <= (limit or 10**9)]

    return fitting


def _trained(task: Task, data: Any, validation: Any, steps: int) -> tuple[Any, dict[str, Any]]:
    """Train for one round. To TRL the rows of all rounds are one set in order; those of other rounds are not looked at.

    So the place in the set, the schedule and the optimizer are those of one training, wherever it is interrupted.
    """
    from datasets import concatenate_datasets
    from transformers import TrainerCallback

    class Ending(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            if state.global_step % steps == 0:
                control.should_save = control.should_training_stop = True

    params = msgspec.structs.replace(
        task.params, trainer={**task.params.trainer, "train_sampling_strategy": "sequential"}
    )
    whole = concatenate_datasets([data] * params.rounds)
    return sft.sft(
        params, SECTION, task.network, task.tokenizer, (whole, validation), task.place, task.watched, [Ending()]
    )


def _said(one: Mapping[str, Any]) -> str:
    marked = "" if one["mean"] is None else f", mean {one['mean']:.2f}, {one['approved']:.0%} approved"
    fits = f", {one['too_long']} of {one['lessons']} lessons too long" if one["too_long"] else ""
    alone = "" if any(one["learned"].values()) else "; nothing to learn from, replay alone"
    return (
        f"{one['sent']} of {one['written']} sent{marked}, {one['improved']} improved, {one['varied']} varied, "
        f"{one['asked_now']} requests asked now{fits}{alone}"
    )


# On policy


def on_policy(task: Task) -> Learned:
    """Let the author write, and draw its distributions to those of a teacher at hand."""
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    params, tokenizer = task.params, task.tokenizer
    teacher, _ = models.load(params, str(params.local_teacher), train=False, cpu=bool(params.trainer.get("use_cpu")))
    ways = [way if writing.switches(tokenizer) else None for way in params.thinking]

    def asked(given: Sequence[Commission]) -> list[str]:
        prompts = [commission.prompt for commission in given]
        return [text for way in ways for text in models.asking(prompts, tokenizer, way)]

    class Distilling(DistillationTrainer):  # type: ignore[misc]
        def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
            return models.token_ids(tokenizer, prompts), None, {}  # as texts: some think and some do not

    def make(settings: dict[str, Any]) -> Any:
        args = config(DistillationConfig, SECTION, settings, **_ours(params, task.place))
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        # One epoch, however long: the orders of later ones are not those of a run that goes on in them.
        prompts = islice(rounds.passes(asked(task.told), random.Random(params.seed)), args.max_steps * batch)
        return Distilling(
            model=task.network,
            teacher_model=teacher,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
            eval_dataset=Dataset.from_dict({"prompt": asked(task.held)}),
            processing_class=tokenizer,
        )

    def look(of: Round) -> list[Near]:
        given = [commission for commission in task.held for _ in range(params.samples)]
        _written(task, of, given, params.seed)
        found = of.read("written", Written)
        far = apart(task.network, teacher, tokenizer, asked(given), [one.reply for one in found])
        return [Near(**msgspec.structs.asdict(one), divergence=value) for one, value in zip(found, far, strict=True)]

    first = Round(task.place / "before")
    first.once("near", lambda: look(first))
    trainer, figures = fit(make, params.trainer, SECTION, task.place, task.watched, evaluate=True)
    figures["eval_loss"] = round(figures.pop("evaluated")["eval_loss"], 4)
    before, after = first.read("near", Near), look(Round(task.place / "after"))
    a, b = (rounds.by_commission(found, lambda one: one.divergence) for found in (before, after))
    figures |= {
        "divergence_before": heldout.interval(a),
        "divergence_after": heldout.interval(b),
        "divergence_gain": heldout.interval([y - x for x, y in zip(a, b, strict=True)]),
        "verdicts": {"before": writing.shares(before), "after": writing.shares(after)},
    }
    return trainer, figures, after


@click.command(help=__doc__.partition("\n")[0])
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("validation", type=click.Path(path_type=Path))
@click.argument("prompts", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("metrics", type=click.Path(path_type=Path))
def main(train: Path, validation: Path, prompts: Path, model: str, out: Path, metrics: Path) -> None:
    """Teach MODEL, or the author that author_distill.model names instead, by a teacher; write it to OUT."""
    params = load(SECTION, AuthorDistillParams)
    start = params.model or model
    models.quiet(local=models.is_local(start))
    chats, held, commissions = (
        ready.read(train, Example),
        ready.read(validation, Example),
        ready.read(prompts, Commission),
    )
    teachers = load("teachers", dict[str, Any])
    ready.insist(check(params, ready.Start(start), chats, held, commissions, teachers))
    words = chat.words()
    # Another teacher, or other words, is another training.
    asked = [teachers.get(one.teacher) for one in (params.judge, params.improve, params.vary)]
    local = [Path(params.local_teacher)] if params.local_teacher else []
    place = workplace(SECTION, (params, start, words, asked), [train, validation, prompts, Path(start), *local])
    with running(place):
        # What writes next is the author as the last checkpoint has it.
        network, tokenizer = loaded(params, str(last_checkpoint(place) or start))
        told, kept = reinforce.divide(commissions.rows or (), params.held_out, params.seed)
        task = Task(
            params=params,
            name=start,
            place=place,
            chats=chats.rows or (),
            validation=held.rows or (),
            told=told,
            held=kept,
            network=network,
            tokenizer=tokenizer,
            watched=author_sft.watching(params, commissions.rows or (), tokenizer, Seen(taught(chats.rows or ()))),
            words=words,
        )
        trainer, figures, samples = METHODS[params.method](task)
        with folder(out) as new:
            shown = {name: value for name, value in figures.items() if name != "rounds"}
            save(trainer, tokenizer, new, params, SECTION, start, shown)
            rows.write(new / "samples.jsonl", samples)
        rows.write_json(metrics, figures)
        shutil.rmtree(place)
    click.echo(f"{SECTION}: {figures['steps']} steps in {figures['seconds']} s, {_gained(figures)}")


def _gained(figures: Mapping[str, Any]) -> str:
    if "gain" not in figures:
        before, after = (figures[f"divergence_{when}"]["mean"] for when in ("before", "after"))
        return f"divergence from the teacher {before:.3f} → {after:.3f} nats a token"
    said = []
    for name in figures["gain"]:
        low, high = figures["gain"][name]["interval95"]
        before, after = (figures[when][name]["mean"] for when in ("before", "after"))
        said.append(f"{name} {before:.0%} → {after:.0%} [{low:+.2f}, {high:+.2f}]")
    return f"of {figures['after']['n']} held-out questions {', '.join(said)}"


METHODS: dict[str, Callable[[Task], Learned]] = {"rounds": by_rounds, "on_policy": on_policy}
CHECKS = {"rounds": _check_rounds, "on_policy": _check_on_policy}
SET_BY_ROUNDS = {
    "train_sampling_strategy": "the stage lays out its rows in order",
    "packing": "a round is so many rows",
    "load_best_model_at_end": "each round goes on from the one before",
}
"""What of `trainer` does not go with rounds."""

if __name__ == "__main__":
    main()
