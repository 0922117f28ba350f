"""Preference pairs of five types, each with what is wrong with its rejected reply and where that came from.

train.jsonl, rollout.jsonl (Record), contrast.jsonl, improve.jsonl (Derived), judge.jsonl (Judged),
attempts.jsonl (Prediction) → a folder, rejects (Reject), metrics:

    train.jsonl                        Pair, TRL's conversational form; the folder loads by `datasets`
    llamafactory/pairs.json            the same in LLaMA-Factory's sharegpt layout
    llamafactory/dataset_info.json     what LLaMA-Factory reads to find it
    README.md                          the card: counts, lengths, letters, an example of each reason

| type          | chosen             | rejected                                                                   |
| wrong_answer  | the record's chain | the chain of `contrast:wrong`; without one, its own argued to another answer |
| biased        | the record's chain | the chain of `contrast:biased`: the same answer, one-sided                 |
| lower_judged  | the improved chain | the record's, with its marks                                               |
| student_error | the record's chain | the model's own reply, if its answer is another                            |
| format        | the record's chain | the same words in a broken form; a reply of the model without an answer    |

Both replies of a pair are about as long (`longer`), so that they can only be told apart by what they say. What could
not be made is in the rejects with its reason, once for each pair that is missing.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain as chained
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import click
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from curate import card
from curate.argue import argue
from curate.balance import reorder
from curate.checks import ValidateParams, reject_reason
from curate.convert import ConvertParams, PromptsParams
from curate.letters import Unclear
from schemas import chat
from schemas.chain import MARKS, output
from schemas.faults import Fault
from schemas.params import ChatPrompt, Count, Params, Share, load
from schemas.record import (
    LETTERS,
    Derived,
    Judged,
    Judgement,
    Letter,
    Message,
    Pair,
    PairType,
    Prediction,
    Record,
    Reject,
)
from schemas.repair import fold
from schemas.rows import read, whole, write_json

N = TypeVar("N", bound=str)

UNREAD = "none"  # the strategy of a Prediction in whose reply no answer was found
MADE_OF: dict[str, PairType] = {
    "contrast:wrong": "wrong_answer",
    "contrast:biased": "biased",
    "improve": "lower_judged",
}
"""The type of pair that a Derived row gives, by how it was made."""


class Shares(Params, frozen=True):
    """Which share of the records give their pairs of a type, drawn by the record's id."""

    wrong_answer: Share
    biased: Share
    lower_judged: Share
    student_error: Share
    format: Share


class PairsParams(Params, frozen=True):
    """Which pairs are kept."""

    types: Shares
    longer: Annotated[float, Meta(ge=1)]
    """Most times as long as the other that one reply may be, in characters."""
    seed: Count


class Making(Struct, frozen=True):
    """What all pairs have in common."""

    pairs: PairsParams
    prompt: ChatPrompt
    parts: tuple[str, ...]
    """Of a chain."""
    validate: ValidateParams
    """What a rewritten chain is held to before it is chosen."""


class Sources(Struct, frozen=True):
    """What was said and written about records, by their ids."""

    derived: dict[str, list[Derived]]
    judgements: dict[str, Judgement]
    attempts: dict[str, Prediction]


class Made(Struct, frozen=True):
    """A pair, and what the report counts of it."""

    pair: Pair
    how: str
    """The way its type was made: the report counts by it."""
    chosen: Letter
    """What the replies answer."""
    rejected: Letter | None

    @property
    def type(self) -> PairType:
        """Of the pair."""
        return self.pair.type

    def lengths(self) -> tuple[int, int]:
        """The characters of the chosen and of the rejected reply."""
        return len(self.pair.chosen[0].content), len(self.pair.rejected[0].content)


class Refused(Struct, frozen=True):
    """A pair that could not be made."""

    type: PairType
    reject: Reject


class Undrawn(Struct, frozen=True):
    """A pair that was left out, made or not, since its record is not among the share of its type."""

    type: PairType


def make_pairs(records: Iterable[Record], sources: Sources, making: Making) -> Iterator[Made | Refused | Undrawn]:
    """Yield what each record gives, in their order; then the rows about records that are not among them.

    No two pairs have the same prompt, chosen and rejected reply. Fault for an attempt at a question of no record.
    """
    seen: set[bytes] = set()
    met: set[str] = set()
    for record in records:
        if record.id in sources.derived or record.id in sources.attempts:
            met.add(record.id)
        found: Made | Refused | Undrawn
        for found in of_record(record, sources, making):
            if not drawn(found.type, record.id, making.pairs):
                found = Undrawn(found.type)
            elif isinstance(found, Made):
                digest = _digest(found.pair)
                if digest in seen:
                    found = _refused(found, record, "duplicate", "another pair has the same prompt and replies")
                seen.add(digest)
            yield found
    strays = sources.attempts.keys() - met
    if strays:
        raise Fault(f"an attempt at {min(strays)}, which is not on the train or rollout side; run `dvc repro attempt`")
    for id_, rows in sources.derived.items():
        for row in rows if id_ not in met else ():
            yield _unfit(row, "elsewhere", f"{id_} is not on the train or rollout side")


def of_record(record: Record, sources: Sources, making: Making) -> Iterator[Made | Refused]:
    """Yield the pairs that can be made about one record, and the refusals."""
    asked = chat.ask(making.prompt, record.question, record.options)
    own = chat.reply(record, making.parts)

    def made(type_: PairType, name: str, how: str, why: str, *, chosen: Message = own, rejected: str) -> Made | Refused:
        against = (Message(role="assistant", content=rejected),)
        pair = Pair(id=f"{record.id}.{name}", type=type_, prompt=asked, chosen=(chosen,), rejected=against, why=why)
        return _fit(Made(pair, how, record.answer, output(rejected)), record, making.pairs.longer)

    argued_for = False
    for row in sources.derived.get(record.id, ()):
        type_ = MADE_OF[row.how]
        placed = _placed(row, record, sources, making)
        if isinstance(placed, Refused):
            yield placed
            continue
        reply = chat.reply(placed, making.parts)
        match type_:
            case "wrong_answer":
                why = f"{row.teacher} argued for {placed.answer}; the answer is {record.answer}"
                found = made(type_, row.id, "contrast", why, rejected=reply.content)
                argued_for = argued_for or isinstance(found, Made)
            case "biased":
                why = f"{row.teacher} argued for the same answer, {record.answer}, from one side alone"
                found = made(type_, row.id, "contrast", why, rejected=reply.content)
            case _:
                how = "improved" if fold(row.question) == fold(record.question) else "reworded"
                why = _marked(sources.judgements[record.id], how)
                found = made(type_, row.id, how, why, chosen=reply, rejected=own.content)
        yield found
    if not argued_for:
        wrong = _by_hash(making.pairs.seed, record.id, (letter for letter in LETTERS if letter != record.answer))
        argued = argue(record, wrong)
        told = ARGUED[argued.how].format(right=record.answer, wrong=wrong)
        why = f"the chosen chain argued for {wrong}, {told}; the answer is {record.answer}"
        yield made("wrong_answer", wrong, argued.how, why, rejected=chat.reply(argued.record, making.parts).content)
    if attempt := sources.attempts.get(record.id):
        if attempt.strategy == UNREAD:
            why = f"the model's own reply, in which no answer was found; the answer is {record.answer}"
            yield made("format", "attempt", "attempt", why, rejected=attempt.response)
        elif attempt.answer != record.answer:
            why = f"the model's own reply answers {attempt.answer} ({attempt.strategy}); the answer is {record.answer}"
            found = made("student_error", "attempt", "attempt", why, rejected=attempt.response)
            yield replace(found, rejected=attempt.answer) if isinstance(found, Made) else found
    broken = {name: text for name, way in BREAKS.items() if (text := way(own.content)) != own.content}
    if broken:
        most = making.pairs.longer
        fit = [name for name, text in broken.items() if alike(len(own.content), len(text), most)]
        how = _by_hash(making.pairs.seed, record.id, fit or broken)
        yield made("format", how, how, f"the chosen chain {BROKEN[how]}", rejected=broken[how])


def drawn(type_: PairType, id_: str, params: PairsParams) -> bool:
    """Whether a record gives pairs of a type: so many do as the type's share says, whatever else there is."""
    share: float = getattr(params.types, type_)
    return int.from_bytes(_hash(params.seed, type_, id_)) < share * 2**64


def _placed(row: Derived, record: Record, sources: Sources, making: Making) -> Derived | Refused:
    """Return a row that was made before the record's options were shuffled as one about the record as it is now."""
    old = [fold(option) for option in row.options]
    now = [fold(option) for option in record.options]
    same_question = row.how == "improve" or fold(row.question) == fold(record.question)
    if sorted(old) != sorted(now) or not same_question:
        return _unfit(row, "not_same_question", f"{row.question} {' | '.join(row.options)}")
    if old != now:
        order = tuple(LETTERS[old.index(option)] for option in now)
        moved = reorder(row, order)  # type: ignore[arg-type]  # four of four
        if isinstance(moved, Unclear):
            return _unfit(row, "letters_unclear", moved.reason)
        assert isinstance(moved, Derived)
        row = moved
    placed = replace(row, question=record.question, options=record.options)
    if row.how == "contrast:wrong":
        return _unfit(row, "same_answer", record.answer) if placed.answer == record.answer else placed
    if placed.answer != record.answer:
        return _unfit(row, "other_answer", f"{placed.answer}, the record's is {record.answer}")
    if row.how == "improve":
        if record.id not in sources.judgements:
            return _unfit(row, "not_judged", f"no marks of {record.id}")
        if wrong := reject_reason(placed, making.validate):
            return _unfit(row, *wrong)
    return placed


def _fit(made: Made, record: Record, longer: float) -> Made | Refused:
    """Return the pair if its replies differ and are about as long."""
    chosen, rejected = made.lengths()
    if made.pair.chosen == made.pair.rejected:
        return _refused(made, record, "same_reply", "the replies differ in no part that is trained on")
    if not alike(chosen, rejected, longer):
        detail = f"chosen {chosen} characters, rejected {rejected}: more than {longer:g} times as long"
        return _refused(made, record, "too_long", detail)
    return made


def alike(one: int, other: int, longer: float) -> bool:
    """Whether neither of two lengths is more than so many times the other."""
    return max(one, other) <= longer * min(one, other)


def _refused(made: Made, record: Record, reason: str, detail: str) -> Refused:
    return _reject(made.type, record.id, record.topic, reason, detail, made.pair)


def _unfit(row: Derived, reason: str, detail: str) -> Refused:
    return _reject(MADE_OF[row.how], row.of, row.topic, reason, detail, row)


def _reject(type_: PairType, id_: str, topic: str, reason: str, detail: str, raw: Pair | Derived) -> Refused:
    text = msgspec.json.encode(raw).decode()
    detail = f"{type_}: {detail}"
    return Refused(type_, Reject(id=id_, topic=topic, stage="pairs", reason=reason, detail=detail, kept=None, raw=text))


def _marked(judgement: Judgement, how: str) -> str:
    marks = ", ".join(f"{name} {getattr(judgement, name)}" for name in MARKS)
    asked = " and whose question it words otherwise" if how == "reworded" else ""
    return (
        f"marked {judgement.mean():.1f} of 5 ({marks}): {judgement.feedback} "
        f"The chosen chain was rewritten after that{asked}"
    )


def _hash(*parts: object) -> bytes:
    return hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()


def _digest(pair: Pair) -> bytes:
    said = msgspec.json.encode((pair.prompt, pair.chosen, pair.rejected))
    return hashlib.blake2b(said, digest_size=12).digest()


def _by_hash(seed: int, id_: str, names: Iterable[N]) -> N:
    """Return one of the names, drawn by seed and id."""
    return min(names, key=lambda name: _hash(seed, id_, name))


def _said(text: str) -> str:
    """The reply with its answer in so many words, in the reply's own language."""
    return OUTPUT.sub(lambda found: f"答案是{found[1]}。" if HAN.search(text) else f"The answer is {found[1]}.", text)


def _answer_first(text: str) -> str:
    found = OUTPUT.search(text)
    return f"{found[0]}\n{text[: found.start()].rstrip()}" if found and found.start() else text


def _without_last(tag: str, text: str) -> str:
    return "".join(text.rsplit(tag, 1))


class Report:
    """What the metrics and the card count."""

    def __init__(self) -> None:
        self.records = 0
        self.pairs: Counter[PairType] = Counter()
        self._ways: dict[tuple[PairType, str], Counter[str]] = defaultdict(Counter)
        self._why: dict[tuple[PairType, str], str] = {}
        self._dropped: dict[PairType, Counter[str]] = defaultdict(Counter)
        self._undrawn: Counter[PairType] = Counter()
        self._letters: dict[str, Counter[str]] = {"chosen": Counter(), "rejected": Counter()}

    def count(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records, counted."""
        for record in records:
            self.records += 1
            yield record

    def add(self, found: Made | Refused | Undrawn) -> None:
        """Count a pair, kept or not."""
        if isinstance(found, Undrawn):
            self._undrawn[found.type] += 1
        elif isinstance(found, Refused):
            self._dropped[found.type][found.reject.reason] += 1
        else:
            chosen, rejected = found.lengths()
            self.pairs[found.type] += 1
            self._ways[found.type, found.how].update(
                pairs=1, chosen=chosen, rejected=rejected, longer=int(chosen > rejected), shorter=int(chosen < rejected)
            )
            self._why.setdefault((found.type, found.how), found.pair.why)
            self._letters["chosen"][found.chosen] += 1
            self._letters["rejected"][found.rejected or UNREAD] += 1

    def metrics(self) -> dict[str, Any]:
        """Return the counts; lengths are means in characters, `chosen_longer` and `rejected_longer` shares."""
        kinds: dict[str, Any] = {}
        for type_ in TYPES:
            ways = {how: counts for (of, how), counts in sorted(self._ways.items()) if of == type_}
            kinds[type_] = {
                **_lengths(sum(ways.values(), Counter())),
                "not_drawn": self._undrawn[type_],
                "dropped": dict(sorted(self._dropped[type_].items())),
                "how": {how: counts["pairs"] for how, counts in ways.items()},
            }
        return {
            "records": self.records,
            "pairs": self.pairs.total(),
            "types": kinds,
            "letters": {
                side: {letter: counts[letter] for letter in (*LETTERS, UNREAD)}
                for side, counts in self._letters.items()
            },
        }

    def numbers(self) -> dict[str, object]:
        """Return the sections of the card."""
        counted = self.metrics()
        kinds = counted["types"]
        ways: dict[str, dict[str, object]] = defaultdict(dict)
        for (type_, how), counts in sorted(self._ways.items(), key=lambda way: (TYPES.index(way[0][0]), way[0][1])):
            ways[type_][how] = {name: value or 0 for name, value in _lengths(counts).items()}
        missing = {
            type_: {"not_drawn": kind["not_drawn"], **kind["dropped"]}
            for type_, kind in kinds.items()
            if kind["not_drawn"] or kind["dropped"]
        }
        return {
            "Records": self.records,
            "Pairs": self.pairs.total(),
            "Type × Made by": dict(ways),
            "Answers": counted["letters"],
            "Not made": missing,
            "Why, the first of each kind": {f"{type_}: {how}": why for (type_, how), why in sorted(self._why.items())},
        }


def _lengths(counts: Mapping[str, int]) -> dict[str, int | float | None]:
    pairs = counts.get("pairs", 0)

    def mean(name: str, digits: int) -> float | None:
        return round(counts.get(name, 0) / pairs, digits) if pairs else None

    return {
        "pairs": pairs,
        "chosen_characters": mean("chosen", 1),
        "rejected_characters": mean("rejected", 1),
        "chosen_longer": mean("longer", 4),
        "rejected_longer": mean("shorter", 4),
    }


def sharegpt(pair: Pair) -> dict[str, object]:
    """Return a pair as LLaMA-Factory reads it: in the sharegpt layout, with its names for the turns."""

    def turn(message: Message) -> dict[str, str]:
        return {"from": TURNS[message.role], "value": message.content}

    (chosen,), (rejected,) = pair.chosen, pair.rejected
    asked = [turn(message) for message in pair.prompt]
    return {"id": pair.id, "conversations": asked, "chosen": turn(chosen), "rejected": turn(rejected)}


def sources(contrast: Path, improve: Path, judge: Path, attempts: Path) -> Sources:
    """Return what the files say; Fault for a row from which no pair is made."""
    derived: dict[str, list[Derived]] = defaultdict(list)
    for path in (contrast, improve):
        for number, row in enumerate(read(path, Derived), 1):
            if row.how not in MADE_OF:
                raise Fault(f"{path}:{number}: '{row.how}' makes no pair; hand over what contrast and improve wrote")
            derived[row.of].append(row)
    judged = {row.id: row.judgement for row in read(judge, Judged) if row.judgement}
    return Sources(dict(derived), judged, {row.id: row for row in read(attempts, Prediction)})


@click.command()
@click.argument("train", type=click.Path(path_type=Path))
@click.argument("rollout", type=click.Path(path_type=Path))
@click.argument("contrast", type=click.Path(path_type=Path))
@click.argument("improve", type=click.Path(path_type=Path))
@click.argument("judge", type=click.Path(path_type=Path))
@click.argument("attempts", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.argument("rejects_file", metavar="REJECTS", type=click.Path(path_type=Path))
@click.argument("metrics_file", metavar="METRICS", type=click.Path(path_type=Path))
def main(
    train: Path,
    rollout: Path,
    contrast: Path,
    improve: Path,
    judge: Path,
    attempts: Path,
    out_dir: Path,
    rejects_file: Path,
    metrics_file: Path,
) -> None:
    """Make preference pairs of five types, each with its reason."""
    making = Making(
        load("pairs", PairsParams),
        load("prompts", PromptsParams).reasoning,
        load("convert", ConvertParams).parts,
        load("validate", ValidateParams),
    )
    said = sources(contrast, improve, judge, attempts)
    report = Report()
    records = report.count(chained(read(train, Record), read(rollout, Record)))
    encode = msgspec.json.Encoder().encode
    with ExitStack() as files:
        pairs, again, rejects, info, readme = (
            files.enter_context(whole(path))
            for path in (
                out_dir / "train.jsonl",
                out_dir / "llamafactory" / "pairs.json",
                rejects_file,
                out_dir / "llamafactory" / "dataset_info.json",
                out_dir / "README.md",
            )
        )
        between = b"[\n"
        for found in make_pairs(records, said, making):
            report.add(found)
            if isinstance(found, Made):
                pairs.write(encode(found.pair) + b"\n")
                again.write(between + encode(sharegpt(found.pair)))
                between = b",\n"
            elif isinstance(found, Refused):
                rejects.write(encode(found.reject) + b"\n")
        again.write(b"\n]\n" if report.pairs else b"[]\n")
        info.write(msgspec.json.format(encode(DATASET_INFO), indent=2) + b"\n")
        title, files_ = "Preference pairs", {"train": "train.jsonl"}
        readme.write(card.text(title, ABOUT, files_, report.numbers(), rows=report.pairs.total()).encode())
    write_json(metrics_file, report.metrics())
    kinds = ", ".join(f"{type_} {report.pairs[type_]:,}" for type_ in TYPES)
    click.echo(f"pairs: {report.pairs.total():,} from {report.records:,} records; {kinds}")


OUTPUT = re.compile(r"<output>([A-D])</output>")
TAG = re.compile(r"</?[a-z]+>")  # in a chain as it is rendered, every other `<` is escaped
HAN = re.compile(r"[\u4e00-\u9fff]")

ARGUED = {
    "text": "the texts of options {right} and {wrong} exchanged throughout",
    "letters": "the letters {right} and {wrong} exchanged throughout",
    "conclusion": "only its conclusion changed",
    "output": "only its <output> changed",
}
"""How a chain was argued to another answer, for a person."""

BREAKS: dict[str, Callable[[str], str]] = {
    "no_output": lambda text: OUTPUT.sub("", text).rstrip(),
    "answer_in_prose": _said,
    "answer_first": _answer_first,
    "output_not_closed": partial(_without_last, "</output>"),
    "step_not_closed": partial(_without_last, "</step>"),
    "steps_run_together": lambda text: text.replace("</step><step>", ""),
    "code_fence": lambda text: f"```xml\n{text}\n```",
    "no_tags": lambda text: TAG.sub("", text),
}
"""The ways in which the form of a reply is broken, its words staying; one that changes nothing is not taken."""

BROKEN = {
    "no_output": "without its <output>",
    "answer_in_prose": "with its answer in a sentence instead of <output>",
    "answer_first": "with its <output> before its reasoning",
    "output_not_closed": "with <output> left open",
    "step_not_closed": "with its last <step> left open",
    "steps_run_together": "with all its steps in one",
    "code_fence": "in a code fence",
    "no_tags": "without its tags",
}
"""The same, for a person."""

TYPES: tuple[PairType, ...] = get_args(PairType)
TURNS = {"system": "system", "user": "human", "assistant": "gpt"}

# The tags are those that LLaMA-Factory takes where none are named; of a `tags` block, those left out would be none.
DATASET_INFO = {
    "pairs": {
        "file_name": "pairs.json",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    }
}

ABOUT = """
Preference pairs: to the same question a chain that is to be preferred and one that is not, about as long as each other.
The rows are in TRL's conversational form (`prompt`, `chosen`, `rejected`); `type` says what is wrong with the rejected
reply, `why` where it came from. `llamafactory/` holds the same pairs for LLaMA-Factory: give it that folder as
`dataset_dir` and `pairs` as `dataset`.

- wrong_answer: argues for another answer.
- biased: the right answer, argued from one side.
- lower_judged: the record's own chain, marked low; chosen is the one that was rewritten by the judge's feedback.
- student_error: the model's own reply, with another answer.
- format: the right words in a broken form, or a reply of the model in which no answer was found.

Nothing here is about a question of the validation or the test side.
"""


if __name__ == "__main__":
    main()
