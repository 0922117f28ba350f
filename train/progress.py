"""Write what can be seen of trainings as one page: curves, answers on the way, the same questions again and again.

model folders (curve.jsonl, watched.jsonl, checkpoints.jsonl, run.json), their metrics → report/training.html,
plots/progress/NAME.csv, metrics/progress.json. Without arguments, of all trainings there are, those that go on now too.
"""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, TypeVar

import click
import msgspec
from msgspec import Struct

from schemas import rows
from schemas.faults import Fault
from schemas.interval import wilson
from schemas.page import Cell, Details, Diff, Facts, Part, Section, Table, Words, page
from schemas.plot import Lines
from train import watch
from train.watch import Reply, Watched
from train.workplace import is_running

MODELS, PLACES, LIVE = Path("models"), Path(".store/checkpoints"), Path("logs/training.html")
SHOWN = 8
"""Questions whose replies are shown: the first of those watched, which are in an order drawn by their ids."""
BESIDE = 6
"""Steps shown side by side, evenly over the training; every step is shown below."""
CLIPPED = 300
"""Characters of a reply shown side by side; all of it is shown below."""
BRIEF = 20
"""Characters of a reply from which on its change is shown in itself: a letter's is seen at once."""
EMPTY = "(empty)"
HEALTHY_KL = (1.0, 3.0)

Points = tuple[tuple[float, float], ...]
Curve = Mapping[str, Points]
State = Literal["done", "running", "stopped"]
S = TypeVar("S", bound=Struct)


class Interval(Struct, frozen=True):
    """A mean with its 95 % interval, as the metrics of `grpo` have it."""

    mean: float
    interval95: tuple[float, float]


class Summary(Interval, frozen=True):
    """A reward and its parts."""

    components: dict[str, Interval]


class Right(Struct, frozen=True):
    """How many held-out questions were answered right."""

    n: int
    accuracy: float
    wilson95: tuple[float, float]


class HeldOut(Struct, frozen=True):
    """Held-out questions before training and after it, as the metrics of `dpo` have them."""

    before: Right
    after: Right
    gain: Interval


class Memory(Struct, frozen=True):
    """GiB of GPU memory."""

    allocated_gib: float
    reserved_gib: float
    peak_gib: float


class Metrics(Struct, frozen=True):
    """What a training's metrics add to its curve; they hold more."""

    steps: int
    seconds: float
    steps_per_second: float
    batch: tuple[int, int]
    memory: Memory | None
    tokens: int | None = None
    reward_before: Summary | None = None
    reward_after: Summary | None = None
    reward_gain: Interval | None = None
    held_out: HeldOut | None = None


class Run(Struct, frozen=True):
    """A training's stage, where it started, and every setting."""

    stage: str
    start: str
    params: dict[str, Any]


class Training(Struct, frozen=True):
    """What is known of a training."""

    name: str
    state: State
    of: int
    """Steps that are planned; 0: not known yet."""
    curve: Curve
    gaps: Mapping[str, tuple[int, ...]]
    """The steps at which a figure was not a number."""
    questions: Sequence[Watched]
    replies: Sequence[Reply]
    run: Run | None
    metrics: Metrics | None

    @property
    def step(self) -> int:
        """The last step that left a trace."""
        steps = [points[-1][0] for points in self.curve.values()] + [reply.step for reply in self.replies[-1:]]
        return int(max(steps, default=0))

    @property
    def title(self) -> str:
        """The name, and the state unless it is done."""
        return self.name if self.state == "done" else f"{self.name}, {self.state}"


class Answered(NamedTuple):
    """The watched questions at one step."""

    step: int
    n: int
    right: int
    low: float
    """Of the 95 % interval, Wilson's."""
    high: float
    kl: float | None
    qualities: dict[str, float]
    """Means over an author's questions; of answers there are none."""

    @property
    def share(self) -> float:
        """Right of all."""
        return self.right / self.n


class Plot(NamedTuple):
    """Logged figures that are drawn together."""

    title: str
    y: str
    names: Mapping[str, str]
    """By what they are called in the plot, their names in the log."""
    note: str


def answered(replies: Iterable[Reply]) -> list[Answered]:
    """Return how the watched questions were answered, step by step."""
    found = []
    for step, group in groupby(sorted(replies, key=lambda reply: reply.step), key=lambda reply: reply.step):
        some = list(group)
        far = [reply.kl for reply in some if reply.kl is not None]
        right = sum(reply.right for reply in some)
        low, high = (round(end, 4) for end in wilson(right, len(some)))
        worth = {name: round(fmean(reply.qualities[name] for reply in some), 4) for name in some[0].qualities}
        found.append(Answered(step, len(some), right, low, high, fmean(far) if far else None, worth))
    return found


def qualities(seen: Sequence[Answered]) -> dict[str, Points]:
    """Return the mean of each quality, step by step; of answers there are none."""
    names = dict.fromkeys(name for at in seen for name in at.qualities)
    return {name: tuple((float(at.step), at.qualities[name]) for at in seen if name in at.qualities) for name in names}


def curves(lines: Iterable[bytes], where: Path) -> tuple[dict[str, Points], dict[str, tuple[int, ...]]]:
    """Return each logged figure by step, and the steps at which it was no number; Fault for a line that is no log."""
    found: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, 1):
        try:
            read = json.loads(line)  # takes NaN, which a loss may become; JSON proper does not
            step = int(read["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise Fault(f"{where}:{number}: {error!r}; not a line of a training's log") from None
        for name, value in read.items():
            if isinstance(value, (int, float)) and name not in ("step", "epoch"):
                found.setdefault(name, {})[step] = float(value)
    curve = {
        name: tuple((float(step), value) for step, value in sorted(by_step.items()) if math.isfinite(value))
        for name, by_step in found.items()
    }
    gaps = {
        name: tuple(step for step, value in sorted(by_step.items()) if not math.isfinite(value))
        for name, by_step in found.items()
    }
    return {n: points for n, points in curve.items() if points}, {n: steps for n, steps in gaps.items() if steps}


def parts_of_reward(curve: Curve) -> dict[str, Points]:
    """Return the mean of each reward by its name."""
    return {
        name.split("/")[1]: points
        for name, points in curve.items()
        if name.startswith("rewards/") and name.endswith("/mean")
    }


def columns(training: Training) -> dict[str, Points]:
    """Return what a training's CSV holds, by column."""
    curve, seen = training.curve, answered(training.replies)
    return {
        "loss": curve.get("loss", ()),
        "eval_loss": curve.get("eval_loss", ()),
        "accuracy": tuple((float(at.step), at.share) for at in seen),
        **{name: curve[name] for name in LOGGED if name in curve},
        **parts_of_reward(curve),
        **{column: curve[name] for column, name in OF_PAIRS.items() if name in curve},
        **({"kl_from_start": far} if (far := _kl(seen)) else {}),
        **{f"watched_{name}": points for name, points in qualities(seen).items()},
    }


def _kl(seen: Sequence[Answered]) -> Points:
    return tuple((float(at.step), at.kl) for at in seen if at.kl is not None)


def csv(training: Training) -> str:
    """Return the figures as CSV, a row for each step.

    What was not measured at a step is NaN: DVC's plots leave a NaN out and draw an empty field as zero.
    """
    found = {name: dict(points) for name, points in columns(training).items()}
    steps = sorted({step for points in found.values() for step in points})
    lines = [",".join(["step", *found])]
    for step in steps:
        values = [repr(points[step]) if step in points else "NaN" for points in found.values()]
        lines.append(",".join([str(int(step)), *values]))
    return "\n".join(lines) + "\n"


def figures(training: Training) -> dict[str, Any]:
    """Return where a training began and where it stands, for the metrics."""
    seen, curve = answered(training.replies), training.curve
    best = max(seen, key=lambda at: at.right, default=None)
    return {
        "steps": training.step,
        "loss": _ends(curve.get("loss")),
        "eval_loss": _ends(curve.get("eval_loss")),
        "reward": _ends(curve.get("reward")),
        "kl": round(far[-1][1], 4) if (far := _kl(seen)) else None,
        "accuracy": {
            "n": seen[-1].n,
            "first": round(seen[0].share, 4),
            "last": round(seen[-1].share, 4),
            "wilson95": [seen[-1].low, seen[-1].high],
            "best": round(best.share, 4),
            "best_step": best.step,
        }
        if best
        else None,
    }


def _ends(points: Points | None) -> dict[str, float] | None:
    return {"first": round(points[0][1], 4), "last": round(points[-1][1], 4)} if points else None


def signs(training: Training) -> list[str]:
    """Return what a person should look at, a sentence each."""
    curve, found = training.curve, []
    for name, steps in training.gaps.items():
        some = ", ".join(map(str, steps[:5])) + (" …" if len(steps) > 5 else "")
        found.append(f"{name} is not a number at step {some}.")
    losses = curve.get("eval_loss", ())
    if losses:
        step, least = min(losses, key=lambda point: point[1])
        if losses[-1][1] > 1.05 * least:
            found.append(f"The validation loss was lowest at step {step:.0f}, {least:.4g}, and is {losses[-1][1]:.4g}.")
    far = curve.get("kl") or _kl(answered(training.replies))
    if far and far[-1][1] > HEALTHY_KL[1]:
        found.append(f"KL is {far[-1][1]:.3g}, above {HEALTHY_KL[1]:.0f}: the model has left the one it started from.")
    chosen = curve.get("eval_logps/chosen", ())
    if chosen and chosen[-1][1] < 1.1 * chosen[0][1]:
        found.append(
            f"Held-out chosen replies have become less likely, log-probability {chosen[0][1]:.4g} at first and "
            f"{chosen[-1][1]:.4g} now: a larger `beta`, a smaller learning rate or the `sft` loss beside holds them."
        )
    flat = curve.get("frac_reward_zero_std", ())
    if flat and flat[-1][1] > 0.5:
        found.append(f"In {flat[-1][1]:.0%} of the groups all replies have the same reward: they teach nothing.")
    cut = curve.get("completions/clipped_ratio", ())
    if cut and cut[-1][1] > 0.1:
        found.append(f"{cut[-1][1]:.0%} of the replies are cut at the longest length allowed.")
    return found


# The page


def written(trainings: Sequence[Training]) -> str:
    """Return the page."""
    counts = {state: sum(one.state == state for one in trainings) for state in ("done", "running", "stopped")}
    about = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    sections = [Section("Trainings", tuple(_overview(trainings)))]
    sections += [Section(one.title, tuple(_training(one))) for one in trainings]
    return page("Progress of training", about, sections)


def _overview(trainings: Sequence[Training]) -> Iterable[Part]:
    made: list[tuple[Cell, ...]] = []
    along: dict[str, Points] = {}
    for one in trainings:
        told, seen = figures(one), answered(one.replies)
        right = told["accuracy"] or {}
        loss, eval_loss, reward = (told[name] or {} for name in ("loss", "eval_loss", "reward"))
        made.append(
            (
                *(one.name, one.state, one.step, one.of or None, loss.get("last"), eval_loss.get("last")),
                *(right.get("first"), right.get("last"), right.get("n")),
                *(reward.get("first"), reward.get("last"), told["kl"]),
            )
        )
        whole = one.of or one.step
        if len(seen) > 1 and whole:
            along[one.title] = tuple((100 * at.step / whole, at.share) for at in seen)
    yield Table(
        "All trainings",
        (
            *("training", "state", "step", "of", "loss", "validation"),
            *("right at first", "right now", "questions", "reward at first", "reward now", "KL"),
        ),
        tuple(made),
        ("", "", "{:,}", "{:,}", "", "", "{:.1%}", "{:.1%}", "{:,}"),
        note="Stopped: interrupted; the same command goes on from the last checkpoint.",
    )
    if along:
        yield Lines("Right answers on the way", "per cent of the steps", "share of the questions", along, note=FEW)


def _training(one: Training) -> Iterable[Part]:
    seen = answered(one.replies)
    worth = qualities(seen)
    yield Facts(tuple(_facts(one, seen)))
    if found := signs(one):
        yield Words(tuple(found))
    if seen:
        yield Lines(
            "Right answers",
            "step",
            "share of the questions",
            {
                "right": tuple((float(at.step), at.share) for at in seen),
                "95 % interval, from": tuple((float(at.step), at.low) for at in seen),
                "to": tuple((float(at.step), at.high) for at in seen),
            },
            note=f"{WRITTEN if worth else ANSWERED} {FEW}".format(seen[-1].n),
        )
    if worth:
        yield Lines("Qualities", "step", "mean", worth, note=WORTH)
    yield from _plots(one, seen)
    if one.metrics and one.metrics.reward_before and one.metrics.reward_after:
        yield _gained(one.metrics.reward_before, one.metrics.reward_after, one.metrics.reward_gain)
    if one.metrics and one.metrics.held_out:
        yield _held_out(one.metrics.held_out)
    if seen:
        yield from _replies(one, seen)
    rest = {name: points for name, points in one.curve.items() if name not in DRAWN and not name.startswith("rewards/")}
    spread = {
        name: points for name, points in one.curve.items() if name.startswith("rewards/") and name.endswith("/std")
    }
    if rest or spread:
        yield Details("Everything else that was logged", (_others({**spread, **rest}),))
    if one.run:
        settings = tuple((name, value) for name, value in _flat({"start": one.run.start, **one.run.params}))
        yield Details("Settings", (Table("From run.json", ("setting", "value"), settings),))


def _facts(one: Training, seen: Sequence[Answered]) -> Iterable[tuple[str, str, str]]:
    yield "steps", f"{one.step:,}", f"of {one.of:,}, {one.state}" if one.of else one.state
    for label, name in (("loss", "loss"), ("validation loss", "eval_loss"), ("reward", "reward")):
        if points := one.curve.get(name):
            yield label, f"{points[-1][1]:.4g}", f"{points[0][1]:.4g} at step {points[0][0]:.0f}"
    if seen:
        first, last = seen[0], seen[-1]
        yield "right answers", f"{last.right} of {last.n}", f"{first.right} at step {first.step}"
    if far := _kl(seen):
        yield "KL from the start", f"{far[-1][1]:.3g}", "on the watched replies"
    if points := one.curve.get("samples_per_second"):
        yield "samples a second", f"{points[-1][1]:.3g}", f"at step {points[-1][0]:.0f}"
    if points := one.curve.get("tokens_per_second"):
        yield "tokens a second", f"{points[-1][1]:,.0f}", f"at step {points[-1][0]:.0f}"
    if points := one.curve.get("peak_gib"):
        yield "GPU memory", f"{points[-1][1]:.3g} GiB", "at its peak"
    if one.metrics:
        per_step = one.metrics.batch[0] * one.metrics.batch[1]
        rate = one.metrics.steps_per_second
        yield "samples a second", f"{rate * per_step:.3g}", f"{rate:.3g} steps of {per_step}"
        yield "time", _time(one.metrics.seconds), "all of it: loading, training, watching"
        if one.metrics.memory:
            yield "GPU memory", f"{one.metrics.memory.peak_gib:.3g} GiB", "at its peak"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _plots(one: Training, seen: Sequence[Answered]) -> Iterable[Part]:
    curve = dict(one.curve)
    if far := _kl(seen):
        curve[WATCHED_KL] = far
    for plot in PLOTS:
        series = {label: curve[name] for label, name in plot.names.items() if name in curve}
        if series:
            yield Lines(plot.title, "step", plot.y, series, note=plot.note)
        if plot.title == "Reward" and (parts := parts_of_reward(curve)):
            yield Lines("Parts of the reward", "step", "mean", parts, note="Each before its weight.")


def _gained(before: Summary, after: Summary, gain: Interval | None) -> Table:
    def row(name: str, a: Interval, b: Interval) -> tuple[Cell, ...]:
        return name, a.mean, _interval(a), b.mean, _interval(b), round(b.mean - a.mean, 4)

    named = [row(name, before.components[name], part) for name, part in after.components.items()]
    note = f"The whole changed by {gain.mean:+.4f} {_interval(gain)}, prompt by prompt." if gain else ""
    return Table(
        "Held-out prompts, sampled before training and after it",
        ("reward", "before", "95 %", "after", "95 %", "change"),
        (row("whole", before, after), *named),
        ("", "{:.4f}", "", "{:.4f}", "", "{:+.4f}"),
        note=note,
    )


def _held_out(found: HeldOut) -> Table:
    def row(when: str, right: Right) -> tuple[Cell, ...]:
        return when, right.accuracy, _ends_of(right.wilson95)

    return Table(
        f"{found.after.n} held-out questions, answered before training and after it",
        ("", "right", "95 %"),
        (row("before", found.before), row("after", found.after)),
        ("", "{:.1%}", ""),
        note=f"The share changed by {found.gain.mean:+.4f} {_interval(found.gain)}, question by question.",
    )


def _interval(value: Interval) -> str:
    return _ends_of(value.interval95)


def _ends_of(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"[{low:.3f}, {high:.3f}]"


def _replies(one: Training, seen: Sequence[Answered]) -> Iterable[Part]:
    steps = [at.step for at in seen]
    given = {(reply.step, reply.id): reply for reply in one.replies}
    some = one.questions[:SHOWN]
    last = len(steps) - 1
    beside = sorted({steps[round(n * last / (BESIDE - 1))] for n in range(BESIDE)})
    yield Table(
        "The same questions on the way",
        ("question", "reference", *(f"step {step}" for step in beside)),
        tuple(
            (_asked(q.question), _short(q.reference), *(_marked(given.get((step, q.id))) for step in beside))
            for q in some
        ),
        note=f"The first {len(some)} of {len(one.questions)}{CONFIRMED if qualities(seen) else DRAWN_BY_IDS}",
    )
    for question in some:
        if replies := [given[step, question.id] for step in steps if (step, question.id) in given]:
            yield Details(_first_line(question.question), tuple(_question(question, replies)))
    yield Details(
        "Which questions were right, and when",
        (
            Table(
                "1: right",
                ("question", *map(str, steps)),
                tuple(
                    (
                        _first_line(q.question),
                        *(int(reply.right) if (reply := given.get((step, q.id))) else None for step in steps),
                    )
                    for q in one.questions
                ),
                heat=tuple(range(1, len(steps) + 1)),
            ),
        ),
    )


def _question(question: Watched, replies: Sequence[Reply]) -> Iterable[Part]:
    yield Words((question.question, f"Reference: {question.reference}"))
    shown: list[tuple[Cell, ...]] = []
    for _, group in groupby(replies, key=lambda reply: (reply.reply, reply.right)):
        same = list(group)
        span = str(same[0].step) if len(same) == 1 else f"{same[0].step} to {same[-1].step}"
        shown.append((span, "✓" if same[0].right else "✗", same[0].reply.strip() or EMPTY))
    yield Table("Replies; those that did not change are one row", ("step", "right", "reply"), tuple(shown))
    first, last = replies[0], replies[-1]
    if min(len(first.reply), len(last.reply)) > BRIEF and first.reply != last.reply:
        yield Diff(f"From step {first.step} to step {last.step}", "", (("reply", first.reply, last.reply),))


def _marked(reply: Reply | None) -> str | None:
    return None if reply is None else f"{'✓' if reply.right else '✗'} {_short(reply.reply) or EMPTY}"


def _short(text: str) -> str:
    """Return a reply with a line for each tag, cut if it is long."""
    text = text.strip().replace("><", ">\n<")
    return text if len(text) <= CLIPPED else f"{text[:CLIPPED]}…"


def _asked(text: str) -> str:
    """Return a prompt from the line on that asks: what stands above it is the same for all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = next((n for n, line in enumerate(lines) if line.startswith(("问题", "問題", "Question"))), 0)
    return "\n".join(lines[first:])


def _first_line(text: str) -> str:
    asked = _asked(text).partition("\n")[0]
    return asked if len(asked) <= 90 else f"{asked[:90]}…"


def _others(curve: Curve) -> Table:
    made = [
        (name, points[0][1], points[-1][1], min(v for _, v in points), max(v for _, v in points))
        for name, points in sorted(curve.items())
    ]
    return Table("Logged figures", ("figure", "first", "last", "least", "most"), tuple(made))


def _flat(values: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Files


def read_model(given: str) -> Training:
    """Return the training behind NAME=MODEL or NAME=MODEL,METRICS: a model's folder and its metrics file."""
    name, _, where = given.partition("=")
    folder, _, metrics = where.partition(",")
    if not name or not folder:
        raise Fault(f"{given}: write NAME=MODEL or NAME=MODEL,METRICS")
    return _done(name, Path(folder), Path(metrics) if metrics else None)


def found_models() -> list[Training]:
    """Return the trainings that left a model below `models`, in the order of their names."""
    made = []
    for path in sorted(MODELS.glob("*/curve.jsonl")):
        run = _json(path.with_name("run.json"), Run)
        metrics = Path("metrics") / f"{run.stage.replace('@', '/')}.json"
        made.append(_done(path.parent.name, path.parent, metrics if metrics.exists() else None))
    return made


def found_places() -> list[Training]:
    """Return the trainings that go on or were interrupted, from their workplaces."""
    made = []
    for place in sorted((Path(os.environ.get("DVC_ROOT", ".")) / PLACES).glob("*/*")):
        stage = place.parent.name
        if (place / watch.LOG).exists() or (place / watch.REPLIES).exists():
            state: State = "running" if is_running(place) else "stopped"
            made.append(_read(stage.partition("@")[2] or stage, state, place, watch.LOG, None, None))
    return made


def _done(name: str, folder: Path, metrics: Path | None) -> Training:
    run = _json(folder / "run.json", Run)
    return _read(name, "done", folder, "curve.jsonl", run, _json(metrics, Metrics) if metrics else None)


def _read(name: str, state: State, place: Path, log: str, run: Run | None, metrics: Metrics | None) -> Training:
    if state == "done":
        rows.opened(place / log).close()
    curve, gaps = curves(_lines(place / log), place / log)
    questions = list(rows.decoded(place / watch.QUESTIONS, 1, _lines(place / watch.QUESTIONS), Watched))
    replies = list(rows.decoded(place / watch.REPLIES, 1, _lines(place / watch.REPLIES), Reply))
    planned = curve.pop("of", ())
    of = int(planned[-1][1]) if planned else metrics.steps if metrics else 0
    return Training(name, state, of, curve, gaps, questions, replies, run, metrics)


def _lines(path: Path) -> list[bytes]:
    """Return the whole lines of a file that may be written to at this moment; none where there is no file."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _json(path: Path, kind: type[S]) -> S:
    with rows.opened(path) as file:
        try:
            return msgspec.json.decode(file.read(), type=kind)
        except msgspec.DecodeError as error:
            raise Fault(f"{path}: {error}") from None


def line(one: Training) -> str:
    """Return where a training stands, for the terminal."""
    told = figures(one)
    ends = [
        f"{name.replace('_', ' ')} {told[name]['last']:.4g}" for name in ("loss", "eval_loss", "reward") if told[name]
    ]
    right = answered(one.replies)[-1:]
    some = [f"{at.right} of {at.n} watched questions right" for at in right]
    of = f" of {one.of:,}" if one.of else ""
    return f"{one.name}: {one.state}, {', '.join([f'{one.step:,}{of} steps', *ends, *some])}"


@click.command(help=__doc__.partition("\n")[0])
@click.argument("out", type=click.Path(path_type=Path), default=LIVE)
@click.argument("plots", type=click.Path(path_type=Path), required=False)
@click.argument("metrics", type=click.Path(path_type=Path), required=False)
@click.argument("models", nargs=-1, metavar="[NAME=MODEL[,METRICS]]...")
@click.option("--watch", "every", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Write anew, every so often.")
def main(out: Path, plots: Path | None, metrics: Path | None, models: tuple[str, ...], every: float | None) -> None:
    """Write OUT, PLOTS/NAME.csv and METRICS of the trainings named, or OUT of all there are, those going on too."""
    while True:
        trainings = [read_model(given) for given in models] if models else [*found_places(), *found_models()]
        if not trainings and not every:
            raise Fault(f"{MODELS}: no training has left anything here or in {PLACES}; run `dvc repro`")
        with rows.whole(out) as file:
            file.write(written(trainings).encode())
        if plots:
            write_plots(plots, trainings)
        if metrics:
            rows.write_json(metrics, {one.name: figures(one) for one in trainings})
        if every:
            click.clear()
        for one in trainings:
            click.echo(line(one))
        click.echo(f"progress: {len(trainings)} trainings in {out}")
        if not every:
            return
        time.sleep(every)


def write_plots(folder: Path, trainings: Iterable[Training]) -> None:
    """Write a CSV for each training into a folder."""
    for one in trainings:
        with rows.whole(folder / f"{one.name}.csv") as file:
            file.write(csv(one).encode())


OF_PAIRS = {
    "chosen": "rewards/chosen",
    "rejected": "rewards/rejected",
    "margin": "rewards/margins",
    "told_apart": "rewards/accuracies",
}
"""What `dpo` logs of its pairs, by the columns of its CSV."""
ANSWERED = "The same {} questions, not trained on, answered greedily."
DRAWN_BY_IDS = ", in an order that their ids drew. ✓: the right letter."
CONFIRMED = ". ✓: computer algebra confirms the question."
WRITTEN = "Written for the same {} commissions at each step; right is what computer algebra confirms."
WORTH = (
    "What those questions are worth, before any weight; a wrong one has nothing but a part of rigor. New is what is "
    "unlike the questions that it was taught; diversity is within the questions for one commission."
)
FEW = "So few questions show a direction, not a difference of a few per cent."
WATCHED_KL = "kl of the watched replies"
PLOTS = (
    Plot(
        "Reward",
        "mean",
        {"reward": "reward"},
        "Of the replies sampled in training, each part times its weight. In reinforcement watch this, not the loss.",
    ),
    Plot(
        "Rewards of the pairs",
        "mean",
        {"chosen": "rewards/chosen", "rejected": "rewards/rejected", "margin": "rewards/margins"},
        "How much likelier a reply has become than it was at the start, as a logarithm, times `beta`; the margin is "
        "raised. A margin that only the fall of both raises is a model that unlearns.",
    ),
    Plot(
        "Pairs told apart",
        "share",
        {"training": "rewards/accuracies", "held out": "eval_rewards/accuracies"},
        "Those whose chosen reply has the greater reward; none at the start, where all are 0.",
    ),
    Plot(
        "Likelihood of held-out replies",
        "log-probability",
        {"chosen": "eval_logps/chosen", "rejected": "eval_logps/rejected"},
        "",
    ),
    Plot("Loss", "loss", {"training": "loss", "validation": "eval_loss"}, ""),
    Plot("Spread of the reward", "standard deviation", {"within groups": "reward_std"}, ""),
    Plot(
        "Groups without spread",
        "share of the groups",
        {"groups": "frac_reward_zero_std"},
        "All replies to a prompt have the same reward: nothing is learned from them.",
    ),
    Plot(
        "KL from the start",
        "nats a token",
        {"sampled in training": "kl", "watched replies": WATCHED_KL},
        "How far the model is from the one before training; 1 to 3 is healthy, more is drift. Watched replies: the "
        "exact divergence at each of their tokens; sampled in training: TRL's estimate, which it logs with a `beta`.",
    ),
    Plot("Entropy", "nats a token", {"entropy": "entropy"}, "Of the next token; near 0 nothing new is tried."),
    Plot(
        "Length of replies",
        "tokens",
        {"mean": "completions/mean_length", "longest": "completions/max_length", "shortest": "completions/min_length"},
        "",
    ),
    Plot("Replies cut at the longest length", "share", {"cut": "completions/clipped_ratio"}, ""),
    Plot("Tokens whose ratio was clipped", "share", {"clipped": "clip_ratio/region_mean"}, ""),
    Plot("Token accuracy", "share", {"training": "mean_token_accuracy", "validation": "eval_mean_token_accuracy"}, ""),
    Plot("Learning rate", "rate", {"rate": "learning_rate"}, ""),
    Plot("Gradient norm", "norm", {"norm": "grad_norm"}, ""),
    Plot("Samples a second", "samples", {"samples": "samples_per_second"}, "Without what watching took."),
    Plot("Tokens a second", "tokens", {"tokens": "tokens_per_second"}, "Without what watching took."),
    Plot(
        "GPU memory",
        "GiB",
        {"allocated": "allocated_gib", "reserved": "reserved_gib", "peak": "peak_gib"},
        "",
    ),
)
DRAWN = {name for plot in PLOTS for name in plot.names.values()}
LOGGED = ("reward", "reward_std", "frac_reward_zero_std", "kl", "entropy", "learning_rate", "grad_norm")
"""What a CSV holds besides loss, accuracy and the parts of the reward, where it was logged."""

if __name__ == "__main__":
    main()
