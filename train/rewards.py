"""Rewards: what a reply is worth, one aspect a function, each within 0 and 1, in simplified and traditional Chinese.

Signature and names are TRL's: a list of completions and the columns of the prompts in, a list of floats out; TRL logs
each under its own name. Each reward is clamped by itself: a clamp on their sum would make the replies of a group equal
and teach nothing. Each says how a model can please it without being better; `correct` alone cannot be pleased so, and
should weigh most.

`train rewards FILE` prints what each gives for completions of your own.
"""

import re
import sys
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any
from unicodedata import east_asian_width

import click
import msgspec
from msgspec import Struct

from schemas import chain, rows
from schemas.faults import Fault
from schemas.neutrality import neutrality_of, surplus
from schemas.params import load, nearest
from schemas.record import LETTERS, Letter
from train.answers import extract

Reward = Callable[..., list[float]]
Completion = str | Sequence[dict[str, str]]

# Simplified and traditional characters alike.
_FORMAT = re.compile(r"(?:答案|(?i:answer))\s*[：:]\s*[（(]?[A-DＡ-Ｄ](?![A-Za-z])")
_REASONS = re.compile(r"理由|因[为為爲]|根[据據]|<step|步[骤驟]|(?i:\bbecause\b|\bstep\s*\d)")

LONG = 256
"""Tokens up to which a reply loses nothing; it loses all of `length` at twice as many."""
WINDOW = 1_000
"""Rewards that a z-score looks back on."""


def format(completions: Sequence[Completion], **_: Any) -> list[float]:
    """The letter stands where it can be read: 答案：B, Answer: B or `<output>B</output>`.

    Any letter will do: a model that always answers A has full marks.
    """
    return [float(_has_format(text)) for text in _texts(completions)]


def reasoning(completions: Sequence[Completion], **_: Any) -> list[float]:
    """The reply gives a reason (理由, 因为, 根据, because) or steps.

    The word is enough, whatever follows it: 因为 before an empty phrase has full marks, a chain of ten steps no more.
    """
    return [float(bool(_REASONS.search(text))) for text in _texts(completions)]


def neutrality(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Words that weigh (可能, 相对 …) against words that decree (绝对, 必须 …), per length; 0.5 where there are none.

    可能 strewn over a reply raises it, and so does leaving out 必须 where a law says must: weigh it little.
    """
    return [neutrality_of(text) for text in _texts(completions)]


def valid(completions: Sequence[Completion], **_: Any) -> list[float]:
    """An answer A to D is found, by whatever strategy.

    Any letter will do, as with `format`; it only teaches to decide at all.
    """
    return [float(extract(text) is not None) for text in _texts(completions)]


def correct(completions: Sequence[Completion], answer: Sequence[str], **_: Any) -> list[float]:
    """The answer found is the reference.

    Guessing earns a quarter of it. A right letter after wrong reasoning earns all: the chain itself is not judged.
    """
    found = [extract(text) for text in _texts(completions)]
    return [float(got is not None and got[0] == right) for got, right in zip(found, answer, strict=True)]


def length(completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """Full marks up to LONG tokens, none from twice as many on, none for an empty reply.

    A bare letter has full marks: without `reasoning` beside it, it shortens chains until they are gone.
    """
    return [_clamp(2 - len(ids) / LONG) if ids else 0.0 for ids in completion_ids]


def repetition(completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """The share of distinct runs of three tokens; full marks for a reply of less than three.

    A short reply hardly repeats itself, and rambling on with new words costs nothing: `length` is its counterweight.
    """
    made = []
    for ids in completion_ids:
        runs = [tuple(ids[n : n + 3]) for n in range(len(ids) - 2)]
        made.append(len(set(runs)) / len(runs) if runs else 1.0)
    return made


def preset(completions: Sequence[Completion], **_: Any) -> list[float]:
    """The reference's single reward: base 0.5, format +0.3, reasons +0.2, balance +0.1, at least 0.7 with a valid
    answer, clamped to [0.1, 1.0].

    It does not know the right answer: 答案：A and 理由 alone have full marks.
    """
    made = []
    for text in _texts(completions):
        value = 0.5 + 0.3 * _has_format(text) + 0.2 * bool(_REASONS.search(text))
        value += 0.1 * (surplus(text) > 0)
        if extract(text):
            value = max(value, 0.7)
        made.append(round(min(1.0, max(0.1, value)), 4))
    return made


class ZScore:
    """A reward as its distance from the mean of the last WINDOW rewards, in their standard deviations.

    Where several processes train, each looks back on the rewards of its own replies.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.__name__ = reward.__name__
        self.seen: deque[float] = deque(maxlen=WINDOW)

    def __call__(
        self, completions: Sequence[Completion], log_metric: Callable[[str, float], None] | None = None, **columns: Any
    ) -> list[float]:
        """Return the distances, 0 as long as all rewards are equal; log the mean of the rewards as `rewards/NAME/raw`.

        TRL logs the mean of what is returned, which stays near 0 however much better the replies become.
        """
        raw = self.reward(completions, **columns)
        if log_metric:
            log_metric(f"rewards/{self.__name__}/raw", fmean(raw))
        self.seen.extend(raw)
        mean, spread = fmean(self.seen), pstdev(self.seen)
        return [(value - mean) / spread if spread > 1e-6 else 0.0 for value in raw]


class Windows:
    """What z-scored rewards look back on, to be kept with a checkpoint: a resumed run scores as it would have."""

    def __init__(self, rewards: Iterable[Reward | ZScore]) -> None:
        self.scores = [reward for reward in rewards if isinstance(reward, ZScore)]

    def kept(self) -> dict[str, Any]:
        """Return the last rewards of each, by name."""
        return {score.__name__: list(score.seen) for score in self.scores}

    def look_back(self, kept: Mapping[str, Any] | None) -> None:
        """Let each look back on what `kept` returned; None: on nothing."""
        for score in self.scores:
            score.seen = deque(kept[score.__name__] if kept else (), maxlen=WINDOW)


def _has_format(text: str) -> bool:
    return bool(_FORMAT.search(text)) or chain.output(text) is not None


def _texts(completions: Sequence[Completion]) -> list[str]:
    return [text if isinstance(text, str) else text[-1]["content"] for text in completions]


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))


# The command.

SHOWN = 40
"""Columns of a reply that the table shows."""
_UNITS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")


class Turn(Struct, frozen=True):
    """A message of a completion."""

    content: str


class Line(Struct, frozen=True):
    """What is read of a line; it may hold more."""

    response: str | tuple[Turn, ...] | None = None
    completion: str | tuple[Turn, ...] | None = None
    """The same under TRL's name."""
    id: str | int | None = None
    answer: str | None = None
    """The right answer; in a row of predictions, which has a strategy too, the answer that was found."""
    strategy: str | None = None
    reference: str | None = None
    """The right reply, as the samples of a model have it."""


class Known(Struct, frozen=True):
    """A right answer; a row of prompts holds more."""

    id: str
    answer: Letter


class Given(Struct, frozen=True):
    """A completion."""

    id: str
    text: str
    answer: Letter | None


class Judged(Struct, frozen=True):
    """A completion's letter, how it was found, and its rewards; `correct` is None where no right answer is known."""

    id: str
    letter: Letter | None
    strategy: str | None
    rewards: dict[str, float | None]
    total: float
    """Weighted; without `correct` where that is None."""
    reply: str


def read(lines: Iterable[bytes], where: str, key: Mapping[str, Letter]) -> list[Given]:
    """Return the completions of a JSONL file; Fault `WHERE:LINE: what is wrong`. `key` has right answers by id."""
    found = [_given(line, n, where, key) for n, line in enumerate(rows.decoded(where, 1, lines, Line), 1)]
    if not found:
        example = '{"response": "答案：B", "answer": "B"}'
        raise Fault(f"{where}: empty; it needs a line for each reply, such as {example}")
    return found


def _given(line: Line, number: int, where: str, key: Mapping[str, Letter]) -> Given:
    text = line.completion if line.response is None else line.response
    if text is None or text == ():
        raise Fault(f"{where}:{number}: no text; put the reply under 'response' or 'completion'")
    id = str(number if line.id is None else line.id)
    answer = key.get(id)
    if answer is None and line.answer is not None and line.strategy is None:
        if line.answer not in LETTERS:
            raise Fault(f"{where}:{number}: answer {line.answer!r} is not one of A, B, C, D")
        answer = LETTERS["ABCD".index(line.answer)]
    elif answer is None and line.reference is not None:
        found = extract(line.reference)
        answer = found[0] if found else None
    return Given(id, text if isinstance(text, str) else text[-1].content, answer)


def judge(given: Sequence[Given], ids: Sequence[Sequence[Any]], weights: Mapping[str, float]) -> list[Judged]:
    """Return each completion with the rewards that have weights; `ids` are its tokens, or what is counted instead."""
    columns: dict[str, Any] = {"completions": [one.text for one in given], "completion_ids": ids}
    made = {name: REWARDS[name](**columns, answer=[one.answer or "" for one in given]) for name in weights}
    judged = []
    for n, one in enumerate(given):
        rewards = {name: None if name == "correct" and not one.answer else made[name][n] for name in weights}
        total = sum(weights[name] * value for name, value in rewards.items() if value is not None)
        letter, strategy = extract(one.text) or (None, None)
        judged.append(Judged(one.id, letter, strategy, rewards, total, one.text))
    return judged


def without_spread(judged: Iterable[Judged]) -> tuple[list[str], int]:
    """Return the ids of which all replies have the same total, and how many ids have several replies."""
    groups: dict[str, list[float]] = {}
    for one in judged:
        groups.setdefault(one.id, []).append(one.total)
    several = {id: totals for id, totals in groups.items() if len(totals) > 1}
    return [id for id, totals in several.items() if max(totals) - min(totals) < 1e-9], len(several)


def table(judged: Sequence[Judged]) -> str:
    """Return a line for each completion and the means, in columns."""
    names = list(judged[0].rewards)
    lines = [["id", "letter", "found by", *names, "total", "reply"]]
    for one in judged:
        values = [*one.rewards.values(), one.total]
        lines.append([one.id, one.letter or "-", one.strategy or "-", *map(_number, values), shortened(one.reply)])
    means = [_mean(one.rewards[name] for one in judged) for name in names] + [_mean(one.total for one in judged)]
    lines.append(["mean", "", "", *map(_number, means), ""])
    return laid_out(lines, [False, False, False, *(True for _ in means), False])


def laid_out(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return lines of texts in columns, those on the `right` as numbers stand."""
    wide = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(_padded, line, wide, right)).rstrip() for line in lines)


def remarks(judged: Sequence[Judged], counted: str) -> list[str]:
    """Return what the figures do not say by themselves, a sentence each."""
    made = []
    names = judged[0].rewards
    if counted and {"length", "repetition"} & names.keys():
        made.append(f"length and repetition counted {counted}, not tokens: give --tokenizer FOLDER")
    unknown = sum("correct" in one.rewards and one.rewards["correct"] is None for one in judged)
    if unknown:
        made.append(f"{unknown:,} of {len(judged):,} have no right answer to compare with: no `correct` in their total")
    flat, groups = without_spread(judged)
    if flat:
        shown = ", ".join(flat[:5]) + (" …" if len(flat) > 5 else "")
        made.append(f"{len(flat)} of {groups} ids have no spread, GRPO learns nothing from equal rewards: {shown}")
    return made


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def shortened(text: str) -> str:
    """Return a text on one line, in as many columns as are SHOWN."""
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    ends = list(accumulate(map(_width, text)))
    return text if not ends or ends[-1] <= SHOWN else text[: bisect(ends, SHOWN - 1)] + "…"


def _tokens(given: Sequence[Given], tokenizer: str | None) -> tuple[Sequence[Sequence[Any]], str]:
    """Return the tokens of each completion, and what is counted instead where there is no tokenizer."""
    texts = [one.text for one in given]
    if tokenizer is None:
        return [_UNITS.findall(text) for text in texts], "Chinese characters, words and marks"
    from transformers import AutoTokenizer

    if not Path(tokenizer).is_dir():
        raise Fault(f"{tokenizer}: no such folder; give that of a model, with its tokenizer")
    ids: Sequence[Sequence[int]] = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)(
        texts, add_special_tokens=False
    )["input_ids"]
    return ids, ""


def lines_of(file: str) -> Iterable[bytes]:
    """Return the lines of a file, - for standard input; Fault if it cannot be read."""
    if file == "-":
        return sys.stdin.buffer
    try:
        return open(file, "rb")  # read to its end, then the process ends
    except OSError as error:
        raise Fault(f"{file}: {error.strerror}; give a JSONL file of completions, or - for standard input") from None


def _key(path: Path | None) -> dict[str, Letter]:
    """Return the right answers by id, of a CSV or of JSON Lines such as the prompts of `grpo`."""
    if path is None:
        return {}
    if path.suffix == ".jsonl":
        return {line.id: line.answer for line in rows.read(path, Known)}
    from train import submission  # the stage `grpo` has no need of it

    return submission.answers(path, (), others=True)


def _weights(every: bool) -> dict[str, float]:
    if every:
        return dict.fromkeys(REWARDS, 1.0)
    weights = load("grpo.rewards", dict[str, float])
    for name in weights:
        if name not in REWARDS:
            raise Fault(f"params.yaml: grpo.rewards.{name}: no such reward; {nearest(name, REWARDS, 'rewards')}")
    return weights


@click.command()
@click.argument("file")
@click.option("--all", "every", is_flag=True, help="Every reward there is, unweighted, not those of params.yaml.")
@click.option(
    "--key", type=click.Path(path_type=Path), help="Right answers by id: a CSV (id, answer) or prompts (JSONL)."
)
@click.option("--tokenizer", help="A model's folder: `length` and `repetition` count its tokens.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, one for each completion.")
def main(file: str, every: bool, key: Path | None, tokenizer: str | None, as_json: bool) -> None:
    """Print what each reward gives for the completions in FILE (- for standard input).

    FILE is JSON Lines: the reply under `response` or `completion`, as a text or a list of messages; `answer`, the right
    letter, and `id`, the same for all replies to one prompt, may be there. Files of predictions and a model's samples
    are read as they are; the answer in a prediction is the model's own, so give --key to compare.
    """
    weights = _weights(every)
    given = read(lines_of(file), file, _key(key))
    ids, counted = _tokens(given, tokenizer)
    judged = judge(given, ids, weights)
    if as_json:
        click.echo(msgspec.json.Encoder().encode_lines(judged), nl=False)
        return
    click.echo(table(judged))
    click.echo(f"weights: {', '.join(f'{name} {weight:g}' for name, weight in weights.items())}")
    for remark in remarks(judged, counted):
        click.echo(remark)


REWARDS: dict[str, Reward] = {
    "format": format,
    "reasoning": reasoning,
    "neutrality": neutrality,
    "valid": valid,
    "correct": correct,
    "length": length,
    "repetition": repetition,
    "preset": preset,
}

if __name__ == "__main__":
    main()
