"""Tell a row's life from the files of the stages: what was asked and tried, mended, checked and moved, where it ended.

data/ (and beside it predictions/, datagen/again.jsonl, curate/decisions.jsonl) → lines for a person, or one JSON
document.

A file is searched for the bytes of the id, and only lines that hold them are decoded: a million rows take seconds.
Files that are not there or older than what they are made of are said. The attempts are those that `datagen show` knows.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import click
import msgspec
from msgspec import Struct, field
from msgspec.structs import asdict

from curate import decisions
from curate.checks import CHECKS, IMPORTED
from curate.import_ import PLACE
from curate.worklist import STAGES as LOST
from schemas.faults import Fault
from schemas.record import (
    LETTERS,
    Again,
    Decision,
    Derived,
    Judged,
    Pair,
    Placed,
    Prediction,
    Record,
    Response,
    Verification,
)

# The stages that drop rows, in the order of the pipeline, and what holds those they keep.
STAGES = {
    "validate": "validated.jsonl",
    "dedup": "dedup.jsonl",
    "decontaminate": "decontaminated.jsonl",
    "gate": "gated.jsonl",
    "balance": "balanced.jsonl",
    "split": "sides.jsonl",
}
DERIVED = ("improve", "vary", "contrast", "translate")
BESIDE = "../"  # not in the folder of the stages' files, but beside it
ASKED = ("responses/*.jsonl", f"{BESIDE}{PLACE}/*.jsonl")
LISTED = f"{BESIDE}datagen/again.jsonl"
DECIDED = f"{BESIDE}curate/decisions.jsonl"
SIZE = 4 << 20  # bytes searched at once
SHOWN = 5  # ids or lines of a kind that are told
HEAD = 160  # characters of a text that are told
# Of what `datagen show` prints: not the messages, which are long.
ATTEMPT = re.compile(
    r"^(?:--- (attempt \d+ at .*|reply by .*, finish .*|verdict: .*|no reply yet)|(asked again) \w{64})$"
)

R = TypeVar("R", bound=Struct)


class Found(Struct, Generic[R], frozen=True):
    """A row, and where it is."""

    row: R
    at: str
    """FILE:LINE."""


class Dropped(Struct, frozen=True):
    """A reject without the row as it was."""

    id: str
    stage: str
    reason: str
    detail: str
    kept: str | None


class Fact(Struct, frozen=True):
    """One thing that is known of a row."""

    stage: str
    said: str
    at: str | None = None
    """FILE:LINE."""


class Story(Struct):
    """All that is known of a row, in the order of the pipeline."""

    id: str
    facts: list[Fact] = field(default_factory=list)
    ended: str = ""
    next: str | None = None
    """What may be done about it, if anything."""

    def tell(self, stage: str, said: str, at: str | None = None) -> None:
        """Add a fact."""
        self.facts.append(Fact(stage, " ".join(said.split()), at))

    def end(self, how: str, then: str | None = None) -> None:
        """Say where the row ended and what may be done; the first end is the end."""
        if not self.ended:
            self.ended, self.next = how, then


class Files:
    """The files of the stages, searched."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.missing: list[str] = []

    def find(self, name: str, needle: bytes, row: type[R]) -> Iterator[Found[R]]:
        """Yield the rows of a file, or of files (`responses/*.jsonl`), whose lines hold the needle."""
        folder = self.data.parent if name.startswith(BESIDE) else self.data
        name = name.removeprefix(BESIDE)
        for path in sorted(folder.glob(name)) if "*" in name else [folder / name]:
            if not path.is_file():
                self.missing.append(str(path))
                continue
            for number, line in lines(path, needle):
                try:
                    yield Found(msgspec.json.decode(line, type=row), f"{path}:{number}")
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise Fault(f"{path}:{number}: {error}; run `dvc repro`") from None

    def one(self, name: str, id_: str, row: type[R]) -> Found[R] | None:
        """Return the row with this id, None if there is none, or no such file."""
        if "*" not in name and not (self.data / name).is_file():
            return None
        return next(self.find(name, b'"id":' + quoted(id_), row), None)


def quoted(text: str) -> bytes:
    """Return a text as it stands in a JSON file."""
    return msgspec.json.encode(text)


def lines(path: Path, needle: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold a needle, with their numbers; what comes after the last is not counted."""
    with open(path, "rb") as file, open(path, "rb") as behind:
        number, at = 1, 0
        while data := file.read(SIZE):
            if not data.endswith(b"\n"):
                data += file.readline()
            hit = data.find(needle)
            while hit >= 0:
                start, end = data.rfind(b"\n", 0, hit) + 1, data.find(b"\n", hit)
                end = len(data) if end < 0 else end
                number += _newlines(behind, at + start)
                yield number, data[start:end]
                hit = data.find(needle, end)
            at += len(data)


def _newlines(file: BinaryIO, end: int) -> int:
    """Return how many line ends there are from where a file stands to a place in it, and leave it there."""
    count = 0
    while size := min(SIZE, end - file.tell()):
        count += file.read(size).count(b"\n")
    return count


def resolve(prefix: str, files: Files) -> str:
    """Return the id that is, or alone begins with, what is given; Fault if there is none or there are several."""
    needle = b'"id":' + quoted(prefix)[:-1]
    places = (*ASKED, *STAGES.values(), *(f"asked/{kind}.jsonl" for kind in DERIVED))
    for name in (*places, "rejects/*.jsonl", LISTED) if prefix else ():
        found: set[str] = set()
        for hit in files.find(name, needle, _Id):
            if hit.row.id == prefix:
                return prefix
            found.add(hit.row.id)
        if len(found) > 1:
            shown = ", ".join(sorted(found)[: 2 * SHOWN]) + (", …" if len(found) > 2 * SHOWN else "")
            raise Fault(f"{prefix}: {len(found):,} ids begin so: {shown}; give more of it")
        if found:
            return found.pop()
    raise Fault(f"{files.data}: no row '{prefix}'; an id is the value of \"id\" in any file there, as in test.csv")


class _Id(Struct):
    id: str


def explain(prefix: str, data: Path, calls: Callable[[str], list[str]]) -> Story:
    """Return the story of a row, `calls` naming those that it took; Fault if no file knows the id."""
    files = Files(data)
    id_ = resolve(prefix, files)
    files.missing.clear()
    story = Story(id_)
    asked = next(filter(None, (files.one(name, id_, Response) for name in ASKED)), None)
    if asked is None and (made := _derived(id_, files)):
        tell_derived(made, calls, files, story)
    else:
        listed = _listed(files)
        if asked:
            tell_request(asked, calls, listed, story)
        else:
            tell_earlier(listed, files, story)
        tell_stages(asked, listed, files, story)
    if files.missing:
        story.tell("missing", f"{', '.join(dict.fromkeys(files.missing))}: not there; `dvc repro` writes them")
    return story


# --- asked ---------------------------------------------------------------------------------------------------------


def tell_request(
    asked: Found[Response], calls: Callable[[str], list[str]], listed: list[Found[Again]], story: Story
) -> None:
    """Tell what was asked, in place of what, and the calls that it took."""
    row = asked.row
    story.tell("request", f"{_place(row)}, {row.teacher}", asked.at)
    for found in listed:
        if _cell(found.row) == _cell(row) and found.row.round + 1 == row.round:
            story.tell("", f"in place of {found.row.id}, dropped: {_why(found.row)}", found.at)
    for line in () if row.teacher.startswith(IMPORTED) else calls(story.id):
        story.tell("attempts", line)
    if row.fault:
        story.tell("", f"given up: {_head(row.fault)}")


def tell_earlier(listed: list[Found[Again]], files: Files, story: Story) -> None:
    """Tell of a row that is not among the responses: it was dropped and asked again, or is of an earlier run."""
    for found in listed:
        row = found.row
        if row.id != story.id:
            continue
        story.tell("request", f"{_place(row)}; dropped: {_why(row)}", found.at)
        for new in _of_cell(row, files):
            story.tell("again", f"{new.row.id}, round {new.row.round}", new.at)
            story.end(f"dropped: {row.reason}; asked again", f"`curate explain {new.row.id}`")
        story.end(f"dropped: {row.reason}", f"it is listed to be asked again: `dvc repro generate@{row.topic}`")
    if not story.facts:
        story.tell("request", "not among the responses: the row is of an earlier run; `dvc repro`")


def attempts(id_: str) -> list[str]:
    """Return what the store knows of the calls that a row took, a line each."""
    if find_spec("datagen") is None:
        return ["not known: datagen is not installed here"]
    command = [sys.executable, "-m", "datagen", "show", id_]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode:
        return [f"not known: {_head(shown.stderr.strip().splitlines()[-1].partition(';')[0])}"]
    found = [match[1] or match[2] for line in shown.stdout.split("\n") if (match := ATTEMPT.match(line))]
    more = len(found) - 2 * SHOWN
    return found if more <= 0 else [*found[:SHOWN], f"… {more} lines, see `datagen show {id_}`", *found[-SHOWN:]]


def _listed(files: Files) -> list[Found[Again]]:
    """Return what was listed to be asked again; there need be no such file."""
    there = (files.data.parent / LISTED.removeprefix(BESIDE)).is_file()
    return list(files.find(LISTED, b'"id":', Again)) if there else []


def _of_cell(row: Again, files: Files) -> Iterator[Found[Response]]:
    """Yield the responses to the request of a row, which may be of another round."""
    needle = b'"difficulty":"%s","type":"%s","sample":%d,' % (row.difficulty.encode(), row.type.encode(), row.sample)
    return files.find(f"responses/{row.topic}.jsonl", needle, Response)


def _place(row: Response | Again) -> str:
    return f"{row.topic} × {row.difficulty} × {row.type}, sample {row.sample}, round {row.round}"


def _cell(row: Response | Again) -> tuple[str, str, str, int]:
    return row.topic, row.difficulty, row.type, row.sample


# --- curated -------------------------------------------------------------------------------------------------------


def tell_stages(asked: Found[Response] | None, listed: list[Found[Again]], files: Files, story: Story) -> None:
    """Tell what each stage made of the row, to the one that dropped it, and which files still hold it beyond that."""
    rejects = list(files.find("rejects/*.jsonl", quoted(story.id), Dropped))
    own = {found.row.stage: found for found in rejects if found.row.id == story.id}
    stale: list[str] = []
    before: Record | None = None
    for stage, name in STAGES.items():
        if stage == "gate" and not story.ended:
            tell_opinions(files, story)
            tell_decisions(before, files, story)
        kept: Found[Any] | None = files.one(name, story.id, Placed if stage == "split" else Record)
        dropped = own.get(stage)
        if story.ended:
            stale += [found.at for found in (kept, dropped) if found]
        elif dropped:
            story.tell(stage, f"dropped: {_why(dropped.row)}", dropped.at)
            story.end(f"dropped by {stage}: {dropped.row.reason}", _remedy(dropped.row, asked, listed))
            stale += [kept.at] if kept and stage != "split" else []
        elif kept is None:
            why = "older than the row" if (files.data / name).is_file() else "not there"
            story.tell(stage, f"neither kept nor dropped: {name} is {why}")
            story.end(f"before {stage}", "`dvc repro`")
        elif stage == "split":
            tell_side(kept, [found for found in rejects if found.row.stage == "pairs"], files, story)
        else:
            story.tell(stage, _kept(stage, before, kept.row), kept.at)
            before = kept.row
        twins = [found.row for found in rejects if found.row.stage == stage and found.row.kept == story.id]
        if twins:
            more = f" and {len(twins) - SHOWN:,} more" if len(twins) > SHOWN else ""
            story.tell("", f"dropped for it: {', '.join(f'{row.id} ({row.reason})' for row in twins[:SHOWN])}{more}")
    if stale:
        story.tell("stale", f"{', '.join(stale)}: left from an earlier run; `dvc repro` takes it out")


def tell_opinions(files: Files, story: Story) -> None:
    """Tell what verify and judge said of the row, and what was made from it."""
    for verified in files.find("asked/verify.jsonl", b'"id":' + quoted(story.id), Verification):
        row = verified.row
        given = f"{row.agreed} of {len(row.answers)} answered {row.answer} as it does" if row.answers else "no answer"
        others = ", ".join(answer for answer in row.answers if answer != row.answer)
        story.tell("verify", given + (f", others {others}" if others else "") + _fault(row.fault), verified.at)
    for judged in files.find("asked/judge.jsonl", b'"id":' + quoted(story.id), Judged):
        marks = judged.row.judgement
        said = "no marks"
        if marks:
            each = ", ".join(f"{name} {mark}" for name, mark in asdict(marks).items() if name != "feedback")
            said = f"mean {marks.mean():.1f}: {each}; {_head(marks.feedback)}"
        story.tell("judge", said + _fault(judged.row.fault), judged.at)
    for kind in DERIVED:
        for made in files.find(f"asked/{kind}.jsonl", b'"of":' + quoted(story.id), Derived):
            story.tell(kind, f"{made.row.id}, {made.row.how}", made.at)


def tell_decisions(record: Record | None, files: Files, story: Story) -> None:
    """Tell what reviewers decided about the row, and whether it still counts."""
    path = files.data.parent / DECIDED.removeprefix(BESIDE)
    numbered = enumerate(decisions.read(path), 1) if path.is_file() else ()
    own = [(number, row) for number, row in numbered if row.id == story.id]
    if record is None or not own:
        return
    about, content = decisions.standing(row for _, row in own)[story.id], decisions.content(record)
    fresh, stale = about.fresh(content), about.stale(content)
    for number, row in own:
        counts = "" if row in fresh else "; stale: the row was another then" if row in stale else "; taken back later"
        story.tell("review", f"{_decided(row)}, {row.at}{counts}", f"{path}:{number}")


def _decided(row: Decision) -> str:
    why = f" as {row.reason}" if row.reason else ""
    return f"{row.reviewer}: {row.verdict}{why}" + (f", {_head(row.note)}" if row.note else "")


def tell_side(placed: Found[Placed], unpaired: list[Found[Dropped]], files: Files, story: Story) -> None:
    """Tell where the split put the row, with which twins, and what was made of it there; `unpaired`: pairs refused."""
    side, cluster = placed.row.side, placed.row.cluster
    twins = [
        found.row.id
        for found in files.find(STAGES["split"], b'"cluster":' + quoted(cluster), Placed)
        if found.row.id != story.id
    ]
    shown = f"; with {', '.join(twins[:SHOWN])}" if twins else "; alone"
    more = f" and {len(twins) - SHOWN:,} more" if len(twins) > SHOWN else ""
    story.tell("split", f"{side or 'set aside'}, cluster {cluster}{shown}{more}", placed.at)
    there = files.one(f"{side}.jsonl", story.id, Record) if side else None
    if there is None:
        story.end(
            f"after split, on side {side}, but not in {side}.jsonl" if side else "set aside by split", "`dvc repro`"
        )
        return
    story.tell("", f"in {side}.jsonl", there.at)
    if side in ("train", "rollout"):
        tell_pairs(files, story)
        for refused in unpaired:
            if refused.row.id == story.id:
                story.tell("pairs", f"none: {_why(refused.row)}", refused.at)
    answered = {"rollout": ("attempt", "attempts.jsonl"), "test": ("predict", f"{BESIDE}predictions/*.jsonl")}
    if side in answered:
        stage, name = answered[side]
        for found in files.find(name, b'"id":' + quoted(story.id), Prediction):
            row = found.row
            right = "right" if row.answer == there.row.answer else f"wrong, {there.row.answer} is right"
            who = f"{Path(found.at).stem}: " if stage == "predict" else ""
            story.tell(stage, f"{who}answered {row.answer} ({row.strategy}), {right}", found.at)
    story.end(f"in {there.at}")


def tell_pairs(files: Files, story: Story) -> None:
    """Tell the preference pairs that were made of the row: their ids begin with its own."""
    for found in files.find("pairs/train.jsonl", b'"id":' + quoted(story.id)[:-1], Pair):
        row = found.row
        if row.id == story.id or not row.id[len(story.id)].isalnum():
            story.tell("pairs", f"{row.id}, {row.type}: {_head(row.why)}", found.at)


def tell_derived(made: Found[Derived], calls: Callable[[str], list[str]], files: Files, story: Story) -> None:
    """Tell of a row that was made from another."""
    row = made.row
    story.tell("made", f"{row.how} from {row.of}, {row.teacher}; {_mended(row)}", made.at)
    for line in calls(story.id):
        story.tell("attempts", line)
    tell_pairs(files, story)
    story.end(f"in {made.at}", f"`curate explain {row.of}` for the row it was made from")


def _derived(id_: str, files: Files) -> Found[Derived] | None:
    return next((made for kind in DERIVED if (made := files.one(f"asked/{kind}.jsonl", id_, Derived))), None)


def _kept(stage: str, before: Record | None, record: Record) -> str:
    """Return what a stage that kept a row did to it."""
    if stage == "validate":
        return f"{_mended(record)}; passed {len(CHECKS)} checks"
    if stage == "gate" and before is not None and decisions.content(before) != decisions.content(record):
        return "kept, as a reviewer edited it"
    if stage != "balance" or before is None or before.options == record.options:
        return f"kept, answer {record.answer}" if stage == "balance" else "kept"
    if set(before.options) != set(record.options):
        return "kept, but its options are others than before; `dvc repro`"
    order = " ".join(LETTERS[before.options.index(text)] for text in record.options)
    return f"answer {before.answer} → {record.answer}; A B C D were {order}, and the chain was led along"


def _mended(record: Record) -> str:
    return f"mended: {', '.join(record.repairs)}" if record.repairs else "nothing to mend"


def _why(row: Dropped | Again) -> str:
    kept = f"; kept instead: {row.kept}" if isinstance(row, Dropped) and row.kept else ""
    return row.reason + (f", {_head(row.detail)}" if row.detail else "") + kept


def _remedy(row: Dropped, asked: Found[Response] | None, listed: list[Found[Again]]) -> str | None:
    """Return what may be done about a row that was dropped."""
    if row.stage not in LOST or asked is None:
        return None
    if asked.row.teacher.startswith(IMPORTED):
        return f"mend it in {asked.row.teacher.removeprefix(IMPORTED)} and import it again"
    if any(found.row.id == row.id for found in listed):
        return f"it is listed to be asked again: `dvc repro generate@{asked.row.topic}`"
    return f"ask again: `curate worklist list.jsonl --reason {row.reason}`, then `datagen again list.jsonl`"


def _fault(fault: str | None) -> str:
    return f"; given up: {_head(fault)}" if fault else ""


def _head(text: str) -> str:
    return text if len(text) <= HEAD else f"{text[:HEAD]}…"


# --- told ----------------------------------------------------------------------------------------------------------


def told(story: Story) -> Iterator[str]:
    """Yield the lines of a story, the stages in a column."""
    yield story.id
    width = max(len(fact.stage) for fact in story.facts) + 2
    before = ""
    for fact in story.facts:
        stage = fact.stage if fact.stage != before else ""
        before = fact.stage or before
        yield f"  {stage:<{width}}{fact.said}" + (f" ({fact.at})" if fact.at else "")
    yield f"  {'ended':<{width}}{story.ended}"
    if story.next:
        yield f"  {'next':<{width}}{story.next}"


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--data", type=click.Path(path_type=Path), default=Path("data"), help="The folder of the stages' files.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def main(id_: str, data: Path, as_json: bool) -> None:
    """Tell the life of the row whose ID begins so: asked, mended, checked, moved; where it ended, or why it did."""
    story = explain(id_, data, attempts)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(story), indent=2).decode())
        return
    for line in told(story):
        click.echo(line)


if __name__ == "__main__":
    main()
