"""Measure curation on replies with planted faults: CPU seconds, memory, recall, equal bytes; other tools beside.

python benchmarks/curation.py [SCENARIO…] [--rows N] [--million] [--peers PYTHON]… [--corpus FOLDER] [--json FILE]

    parse   mend() alone: rows per CPU second, and what became of each kind of malformed reply
    rows    parse, repair, check and convert in one go; the stages validate and convert; each in one process
    dedup   what it costs, what it finds of each kind of duplicate, what it drops that should stay
    whole   every stage from validate to convert; with --million at a million rows too
    same    the bytes of the whole with 1, 2 and 3 processes, Ray with 2 and 3 workers, and again
    peers   near-duplicates as other tools find them, each by the first interpreter that has its library

A black box: stages run as dvc.yaml says, in a project of their own, each a process. CPU seconds are those of a process
and its children. `peak` is of the process that was started, `all MB` of it and its children together, a MB being
10^6 bytes. Each bound stands with its figure as ok or MISSED; the exit status is 1 if one was missed. Figures of speed
are held to their bounds at 100,000 rows alone.
"""

import contextlib
import hashlib
import json
import operator
import os
import platform
import re
import select
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, reduce
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's packages, whichever are installed

import corpus as bank  # noqa: E402

from schemas.chain import Malformed  # noqa: E402
from schemas.record import Record, Reject, Response  # noqa: E402
from schemas.repair import mend  # noqa: E402

FULL = 100_000  # rows at which figures are held to their bounds
MILLION = 1_000_000
SAME = 60_000  # so many that every stage has chunks enough to spread over processes
PEERS = (1_000, 10_000)
LOOK = 0.05  # seconds between two looks at a process's memory
STAGES = ("validate", "dedup", "decontaminate", "gate", "balance", "split", "convert")
SPREAD = tuple(stage for stage in STAGES if stage != "gate")  # those that use other processes
BODY = 0.55  # similarity of two bodies that are one, here and for the peers
WORKERS: tuple[tuple[str, dict[str, object]], ...] = (
    ("1 process", {"processes": 1, "ray": None}),
    ("1 process, again", {"processes": 1, "ray": None}),
    ("2 processes", {"processes": 2, "ray": None}),
    ("3 processes", {"processes": 3, "ray": None}),
    ("Ray, 2 workers", {"processes": 2, "ray": "local"}),
    ("Ray, 3 workers", {"processes": 3, "ray": "local"}),
)
RECALL: Mapping[str, float] = {
    "copy": 1.0,
    "width": 0.99,
    "light": 0.99,
    "heavy": 0.95,
    "shuffled": 1.0,
    "reasoned": 1.0,
    "conflict": 1.0,
}
TOOLS: Mapping[str, str] = {
    "datasketch": "datasketch",
    "rensa": "rensa",
    "distilabel": "distilabel",
    "data-juicer": "py-data-juicer",
    "datatrove": "datatrove",
    "text-dedup": "text-dedup",
}
"""A name of peers/near.py and the distribution it needs."""
OPS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}

Bounds = dict[str, tuple[str, float]]
Figures = Mapping[str, float | None]


class Ran(NamedTuple):
    """How a process went."""

    wall: float
    cpu: float
    peak: float
    """MB that it held at most."""
    together: float
    """MB that it and its children held at most at one time."""
    processes: int
    """That there were at one time, at most."""
    code: int
    said: str

    def then(self, other: "Ran") -> "Ran":
        """Return the two as one, one after the other."""
        peak, together = max(self.peak, other.peak), max(self.together, other.together)
        processes = max(self.processes, other.processes)
        return Ran(self.wall + other.wall, self.cpu + other.cpu, peak, together, processes, other.code, other.said)

    def figures(self) -> dict[str, float | None]:
        """Return the columns of a table."""
        return {"wall": self.wall, "cpu": self.cpu, "peak": self.peak, "together": self.together}


NOTHING = Ran(0.0, 0.0, 0.0, 0.0, 0, 0, "")


@dataclass(frozen=True)
class Row:
    """A line of a table: what was measured and how it stands to its bounds."""

    name: str
    figures: Figures
    checks: dict[str, bool] = field(default_factory=dict)
    note: str = ""


# Figure: its heading and its format; one that is not here goes by its own name.
SHOWN = {
    "wall": ("wall s", ".1f"),
    "cpu": ("CPU s", ".2f"),
    "peak": ("peak MB", ".0f"),
    "together": ("all MB", ".0f"),
    "speed": ("rows/CPU-s", ".0f"),
    "recall": ("recall", ".4f"),
    "linear": ("CPU, of linear", ".2f"),
    "linear_wall": ("wall, of linear", ".2f"),
    "scaled": ("CPU s at 100k", ".0f"),
    **{name: (name, ".3f") for name in bank.DUPLICATES},
}


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end, and weigh it."""
    with open(folder / "said", "w+b") as said:
        start = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env={**_environment(), **(environment or {})}, stdout=said, stderr=said
        )
        ended = os.pidfd_open(process.pid)
        peak = together = 0.0
        processes = 1
        while not select.select([ended], [], [], LOOK)[0]:
            weights = {pid: _weight(pid) for pid in _family(process.pid)}
            peak = max(peak, weights[process.pid][1])
            together = max(together, sum(now for now, _ in weights.values()))
            processes = max(processes, len(weights))
        wall = time.monotonic() - start
        os.close(ended)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    cpu = usage.ru_utime + usage.ru_stime
    return Ran(wall, cpu, peak, max(peak, together), processes, process.returncode, text)


@cache
def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATAGEN_", "DVC_"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))


def _weight(pid: int) -> tuple[float, float]:
    """Return what a process holds and the most that it has held, in MB; 0 once it is gone.

    Not `ru_maxrss`, which starts at what the parent held.
    """
    found = {"VmRSS": 0.0, "VmHWM": 0.0}
    with contextlib.suppress(OSError):
        for name, size in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M):
            found[name] = int(size) * 1024 / 1e6
    return found["VmRSS"], found["VmHWM"]


class Project:
    """A project in a folder of its own: params.yaml, with other values, and the replies of a corpus."""

    def __init__(self, folder: Path, corpus: bank.Corpus, workers: Mapping[str, object]) -> None:
        self.folder = folder
        (folder / "data" / "asked").mkdir(parents=True)
        (folder / "data" / "responses").symlink_to(corpus.responses)
        for name in ("verify", "judge"):
            (folder / "data" / "asked" / f"{name}.jsonl").touch()
        (folder / "curate").mkdir()
        (folder / "curate" / "decisions.jsonl").touch()
        yaml = YAML()
        document = yaml.load(ROOT / "params.yaml")
        for section, values in {
            "workers": workers,
            "validate": {"min_chinese": 0.0},
            "dedup": {"question": 0.9, "body": BODY},
            "decontaminate": {"held": str(corpus.held)},
            "convert": {"orders": 1},
        }.items():
            if unknown := set(values) - set(document[section]):
                raise SystemExit(
                    f"params.yaml: {section} has no {', '.join(sorted(unknown))} any more; set it here anew"
                )
            document[section] |= values
        yaml.dump(document, folder / "params.yaml")

    def run(self, stage: str) -> Ran:
        """Run a stage as dvc.yaml says; one that leaves out what dvc.yaml says it writes has not ended well."""
        described = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]
        params = YAML(typ="safe").load(self.folder / "params.yaml")
        command = re.sub(r"\$\{(\w+)\.(\w+)\}", lambda found: str(params[found[1]][found[2]]), described["cmd"])
        program, *rest = shlex.split(command)
        ran = run([sys.executable if program == "python" else program, *rest], self.folder)
        missing = [out for out in described["outs"] if not (self.folder / out).exists()]
        return ran._replace(code=1, said=f"{ran.said}\nwrote no {', '.join(missing)}") if missing else ran

    def must(self, stage: str) -> Ran:
        """Run a stage that has to end well."""
        ran = self.run(stage)
        if ran.code:
            raise SystemExit(f"{stage}: {ran.said[-2000:]}")
        return ran

    def rejects(self, stage: str) -> Iterator[Reject]:
        """Yield what a stage has dropped."""
        return lines(self.folder / "data" / "rejects" / f"{stage}.jsonl", Reject)

    def ids(self, name: str) -> set[str]:
        """Return the ids of a file in data/."""
        return {row.id for row in lines(self.folder / "data" / name, Id)}

    def digest(self) -> str:
        """Return a hash of all that the stages have written, names and bytes."""
        found = hashlib.blake2b(digest_size=8)
        for path in sorted(path for top in ("data", "metrics") for path in (self.folder / top).rglob("*")):
            if path.is_file() and not path.is_symlink():
                found.update(f"{path.relative_to(self.folder)}\0{path.stat().st_size}\0".encode())
                with open(path, "rb") as file:
                    while piece := file.read(1 << 20):
                        found.update(piece)
        return found.hexdigest()


class Id(msgspec.Struct, frozen=True):
    """The one field of a row that is looked at."""

    id: str


def lines(path: Path, row: type[Any]) -> Iterator[Any]:
    """Yield the rows of a JSONL file."""
    decode = msgspec.json.Decoder(row).decode
    with open(path, "rb") as file:
        yield from map(decode, file)


class Bench:
    """Where scenarios find their rows."""

    def __init__(self, folder: Path, keep: Path | None, pythons: Sequence[str]) -> None:
        self.folder = folder
        self.keep = keep
        self.pythons = pythons
        folder.mkdir(parents=True, exist_ok=True)

    def corpus(self, rows: int) -> bank.Corpus:
        """Return a bank of so many rows, made if it is not there."""
        topics = list(YAML(typ="safe").load(ROOT / "params.yaml")["topics"])
        start = time.monotonic()
        found = bank.corpus(self.folder, rows, topics)
        if (took := time.monotonic() - start) > 1:
            click.echo(f"a bank of {rows:,} rows made in {took:.0f} s: {found.folder}")
        return found

    @contextlib.contextmanager
    def project(self, corpus: bank.Corpus, name: str, **workers: object) -> Iterator[Project]:
        """Make a project for a scenario; it goes with the scenario unless it is to be kept."""
        with contextlib.ExitStack() as stack:
            top = self.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="curation-")))
            yield Project(top / name, corpus, {"processes": None, "ray": None, **workers})


def parse(bench: Bench, rows: int) -> Iterator[Row]:
    """Mend every reply; compare what comes of it with what was written, character for character."""
    corpus = bench.corpus(rows)
    spent: Counter[str] = Counter()
    found: dict[str, Counter[str]] = {}
    number = 0
    for path in sorted(corpus.responses.iterdir(), key=lambda path: next(lines(path, Response)).sample):
        replies = [response.content for response in lines(path, Response)]
        kinds = [bank.kind(at) for at in range(number, number + len(replies))]
        for malformed in (False, True):
            rows_here = [at for at, kind in enumerate(kinds) if (kind in bank.MALFORMED) == malformed]
            start = time.process_time()
            mended = [mend(replies[at]) for at in rows_here]
            spent["malformed" if malformed else "good"] += int((time.process_time() - start) * 1e9)
            for at, verdict in zip(rows_here, mended, strict=True):
                kind = kinds[at] if malformed else "good"
                if isinstance(verdict, Malformed):
                    became = "rejected"
                else:
                    became = "exact" if verdict[0] == bank.item(number + at) else "wrong"
                found.setdefault(kind, Counter())[became] += 1
        number += len(replies)
    speeds = {
        "good": found["good"].total() / spent["good"] * 1e9,
        "malformed": sum(found[kind].total() for kind in bank.MALFORMED) / spent["malformed"] * 1e9,
    }
    for kind in ("good", *bank.MALFORMED):
        counts = found.get(kind, Counter())
        figures = {
            "rows": counts.total(),
            "speed": speeds["good" if kind == "good" else "malformed"],
            **{became: counts[became] for became in ("exact", "rejected", "wrong")},
        }
        mendable = kind in ("good", *bank.MENDABLE)
        bounds: Bounds = {"wrong": ("==", 0), ("exact" if mendable else "rejected"): ("==", counts.total())}
        yield Row(kind, figures, checked(figures, bounds), "" if kind == "good" else "speed: of all malformed")


def rows(bench: Bench, rows: int) -> Iterator[Row]:
    """Parse, repair, check and convert to chats in one go; then validate and convert, with all rows on one side.

    The bound is for the work alone. The stages write 500 MB more: what they keep, seven data sets and their cards.
    """
    corpus = bench.corpus(rows)
    with bench.project(corpus, "rows", processes=1) as project:
        command = [sys.executable, str(ROOT / "benchmarks/once.py"), "data/responses", "data/once"]
        three = sorted((run(command, project.folder) for _ in range(3)), key=lambda ran: ran.cpu)
        if failed := next((ran for ran in three if ran.code), None):
            raise SystemExit(f"once: {failed.said[-2000:]}")
        once = three[1]
        figures = once.figures() | {"speed": rows / once.cpu}
        yield Row(
            "to chats, in one go", figures, checked(figures, {"cpu": ("<=", 6)} if rows == FULL else {}), "median of 3"
        )
        validate = project.must("validate")
        yield Row("validate", validate.figures() | {"speed": rows / validate.cpu}, note=_validated(project, corpus))
        data = project.folder / "data"
        (data / "train.jsonl").hardlink_to(data / "validated.jsonl")
        for side in ("rollout", "validation", "test"):
            (data / f"{side}.jsonl").touch()
        convert = project.must("convert")
        yield Row("convert", convert.figures() | {"speed": rows / convert.cpu})
    both = validate.then(convert)
    yield Row("both stages", both.figures() | {"speed": rows / both.cpu})


def _validated(project: Project, corpus: bank.Corpus) -> str:
    """Return what validate did, by what the rows are."""
    truth = corpus.truth()
    dropped: dict[str, Counter[str]] = {}
    for reject in project.rejects("validate"):
        special = truth.get(reject.id)
        kind = special.kind if special else "good"
        group = "mendable" if kind in bank.MENDABLE else "malformed" if kind in bank.MALFORMED else kind
        dropped.setdefault(group, Counter())[reject.reason] += 1
    said = (
        f"{group} {', '.join(f'{n} {reason}' for reason, n in counts.items())}" for group, counts in dropped.items()
    )
    return f"dropped: {'; '.join(said)}"


def dedup(bench: Bench, rows: int) -> Iterator[Row]:
    """Run dedup on what validate keeps, and compare what it drops with what was planted."""
    corpus = bench.corpus(rows)
    with bench.project(corpus, "dedup") as project:
        project.must("validate")
        ran = project.must("dedup")
        figures = ran.figures() | {"speed": rows / ran.cpu}
        bounds: Bounds = {"cpu": ("<=", 20), "together": ("<=", 1000)} if rows == FULL else {}
        yield Row("dedup", figures, checked(figures, bounds), last(ran.said))
        yield from _found(
            corpus.truth(), project.ids("validated.jsonl"), {row.id: row for row in project.rejects("dedup")}
        )


def _found(truth: Mapping[str, bank.Truth], there: set[str], dropped: Mapping[str, Reject]) -> Iterator[Row]:
    """Compare, for each kind, the rows that were there with those that were dropped.

    A row counts if the one it was made from was there too. One whose question has a conflict may go, whatever it is.
    """
    of = {id_: special.of for id_, special in truth.items() if special.of}
    disputed = {special.of for special in truth.values() if special.kind == "conflict" and special.id in there}
    for kind in (*bank.DUPLICATES, "conflict"):
        planted = [id_ for id_, special in truth.items() if special.kind == kind and {id_, special.of} <= there]
        gone = [dropped[id_] for id_ in planted if id_ in dropped]
        if kind == "conflict":
            gone = [reject for reject in gone if reject.reason == "conflict"]
        kept = sum(reject.kept == of[reject.id] for reject in gone)
        figures: Figures = {"rows": len(planted), "dropped": len(gone), "recall": len(gone) / max(len(planted), 1)}
        reasons = Counter(reject.reason for reject in gone)
        note = f"{', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))}; {kept} name what they repeat"
        yield Row(kind, figures, checked(figures, {"recall": (">=", RECALL[kind])}), note)
    for kind in (*bank.SIBLINGS, "original"):
        if kind == "original":
            stays = [id_ for id_ in there if id_ not in of and id_ not in disputed]
        else:
            stays = [id_ for id_, special in truth.items() if special.kind == kind and {id_, special.of} <= there]
            stays = [id_ for id_ in stays if of[id_] not in disputed]
        gone = [dropped[id_] for id_ in stays if id_ in dropped]
        figures = {"rows": len(stays), "dropped": len(gone), "recall": None}
        named = "; ".join(f"{reject.id} {reject.reason}, {reject.detail}" for reject in gone[:2])
        yield Row(f"must stay: {kind}", figures, checked(figures, {"dropped": ("==", 0)}), named)


def whole(bench: Bench, rows: int, million: bool = False) -> Iterator[Row]:
    """Run every stage at one size, or at that and at a million."""
    costs: dict[str, Ran] = {}
    for size in (rows, MILLION) if million else (rows,):
        corpus = bench.corpus(size)
        with bench.project(corpus, f"whole-{size}") as project:
            total = NOTHING
            for stage in STAGES:
                ran = project.run(stage)
                if ran.code:
                    yield Row(f"{stage}, {size:,}", ran.figures(), {"ended well": False}, last(ran.said))
                    return
                note = last(ran.said)
                if stage == "decontaminate":
                    note += "; " + _decontaminated(project, corpus)
                yield _sized(stage, size, ran, costs.get(stage), size / rows, note)
                costs[stage] = costs.get(stage, ran)
                total = total.then(ran)
            yield _sized("whole", size, total, costs.get("whole"), size / rows, f"bytes {project.digest()}")
            costs["whole"] = costs.get("whole", total)


def _sized(name: str, size: int, ran: Ran, smaller: Ran | None, times: float, note: str) -> Row:
    """Show a stage at a size; beside a smaller one, how much more it takes than in proportion."""
    figures = ran.figures() | {"linear": None, "linear_wall": None}
    bounds: Bounds = {}
    if smaller:
        figures |= {"linear": ran.cpu / smaller.cpu / times, "linear_wall": ran.wall / smaller.wall / times}
    if size == MILLION:
        bounds = {"together": ("<=", 1000), "linear": ("<=", 1.25)}
    return Row(f"{name}, {size:,}", figures, checked(figures, bounds), note)


def _decontaminated(project: Project, corpus: bank.Corpus) -> str:
    """Return how many of the planted questions were found, and what else went."""
    of = {id_: special.of for id_, special in corpus.truth().items()}
    planted, there = corpus.planted(), project.ids("dedup.jsonl")
    dropped = {reject.id for reject in project.rejects("decontaminate")}
    found, present = len(dropped & set(planted)), len(there & set(planted))
    others = [id_ for id_ in dropped - set(planted) if of.get(id_) not in planted]
    return f"{found} of {present} planted found, {len(others)} others dropped"


def same(bench: Bench, rows: int) -> Iterator[Row]:
    """Run every stage with different workers; the first run's bytes are what the others' must be."""
    corpus = bench.corpus(min(rows, SAME))
    first = None
    for name, workers in WORKERS:
        with bench.project(corpus, name.replace(" ", "-"), **workers) as project:
            ran = {stage: project.must(stage) for stage in STAGES}
            digest = project.digest()
        first = first or digest
        total = reduce(Ran.then, ran.values())
        wanted = int(str(workers["processes"]))
        alone = [stage for stage in SPREAD if ran[stage].processes <= wanted and wanted > 1]
        checks = {"same bytes": digest == first, "workers": not alone}
        yield Row(name, total.figures(), checks, f"{digest}{' without workers: ' if alone else ''}{', '.join(alone)}")


def peers(bench: Bench, rows: int) -> Iterator[Row]:
    """Have dedup and each tool that is installed look for the same bodies at two sizes.

    What they take at 100,000 rows is what the larger takes and the difference of the two, as often as it goes.
    """
    few, many = (bench.corpus(size) for size in PEERS)
    with bench.project(few, "peers-few", processes=1) as less, bench.project(many, "peers", processes=1) as more:
        for project in (less, more):
            project.must("validate")
        yield _side("dedup of this project", _own(less), _own(more), more, many)
        for name, distribution in TOOLS.items():
            found = _interpreter(distribution, bench.pythons)
            if found:
                python, version = found
                yield _side(f"{name} {version}", _near(name, python, less), _near(name, python, more), more, many)
            else:
                click.echo(f"{name}: not installed")


def _own(project: Project) -> tuple[Ran, set[str]]:
    """Run dedup; return what it cost and what it dropped."""
    ran = project.run("dedup")
    return ran, set() if ran.code else {reject.id for reject in project.rejects("dedup")}


def _near(tool: str, python: str, project: Project) -> tuple[Ran, set[str]]:
    """Run another tool on the same rows; return the same."""
    with tempfile.TemporaryDirectory(prefix="near-") as name:
        folder = Path(name)
        texts, removed = folder / "texts.jsonl", folder / "removed"
        _texts(project, texts)
        script = str(ROOT / "benchmarks" / "peers" / "near.py")
        alone = {"HOME": name, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
        ran = run([python, script, tool, str(texts), str(BODY), str(removed), name], folder, alone)
        return ran, set() if ran.code else set(removed.read_text().split())


def _side(
    name: str, few: tuple[Ran, set[str]], many: tuple[Ran, set[str]], project: Project, corpus: bank.Corpus
) -> Row:
    """Show one of those who look for duplicates; which of two they drop is theirs to choose."""
    (less, _), (more, removed) = few, many
    if less.code or more.code:
        return Row(name, {}, {}, f"failed: {last(less.said if less.code else more.said)}")
    truth, there = corpus.truth(), project.ids("validated.jsonl")
    recall: dict[str, float | None] = {}
    for kind in bank.DUPLICATES:
        planted = [(id_, special.of) for id_, special in truth.items() if special.kind == kind]
        pairs = [pair for pair in planted if there.issuperset(pair)]
        recall[kind] = sum(not removed.isdisjoint(pair) for pair in pairs) / max(len(pairs), 1)
    family = {special.of for special in truth.values()}
    wrong = Counter(
        "sibling" if id_ in truth and truth[id_].kind in bank.SIBLINGS else "other"
        for id_ in removed
        if id_ not in family and (id_ not in truth or truth[id_].kind in (*bank.SIBLINGS, *bank.MALFORMED))
    )
    slope = (more.cpu - less.cpu) / (PEERS[1] - PEERS[0])
    figures = more.figures() | {"scaled": more.cpu + slope * (FULL - PEERS[1]), **recall}
    note = f"dropped that must stay: {wrong['sibling']} siblings, {wrong['other']} others"
    return Row(name, figures, {}, note)


def _texts(project: Project, path: Path) -> None:
    """Write the bodies of what validate kept."""
    with open(path, "w", encoding="utf-8") as file:
        for record in lines(project.folder / "data" / "validated.jsonl", Record):
            texts = (record.question, *record.options, record.think, *record.steps, record.reflection)
            file.write(json.dumps({"id": record.id, "text": "\n".join(texts)}, ensure_ascii=False) + "\n")


def _interpreter(distribution: str, pythons: Sequence[str]) -> tuple[str, str] | None:
    """Return the first interpreter that has a distribution, and its version."""
    for python in pythons:
        code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
        probe = subprocess.run([python, "-c", code], capture_output=True, text=True)
        if probe.returncode == 0:
            return python, probe.stdout.strip()
    return None


def checked(figures: Figures, bounds: Bounds) -> dict[str, bool]:
    """Return each bound in words, and whether it holds."""
    known = {name: value for name, value in figures.items() if value is not None}
    return {
        f"{name} {round(known[name], 4):.9g} {sign} {bound:.9g}": OPS[sign](known[name], bound)
        for name, (sign, bound) in bounds.items()
    }


def table(name: str, rows: Iterable[Row]) -> list[Row]:
    """Print rows as they come, a new head wherever the columns change; return them."""
    click.echo(f"\n## {name}")
    shown: list[Row] = []
    for row in rows:
        if not shown or list(shown[-1].figures) != list(row.figures):
            heads = ["", *(SHOWN.get(figure, (figure, ""))[0] for figure in row.figures), "bounds"]
            click.echo(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        cells = [
            "" if value is None else format(value, SHOWN.get(figure, ("", ",.0f"))[1])
            for figure, value in row.figures.items()
        ]
        checks = [f"{text} {'ok' if held else 'MISSED'}" for text, held in row.checks.items()]
        said = "; ".join(filter(None, [*checks, row.note.replace("|", " ").replace("\n", " ")]))
        click.echo(f"| {' | '.join([row.name, *cells, said])} |")
        shown.append(row)
    return shown


def last(said: str) -> str:
    """Return the last line of a text that says anything, shortened."""
    found = [line.strip() for line in said.splitlines() if re.search(r"[^\W\d_]", line)]
    return found[-1][:300] if found else ""


def machine() -> str:
    """Return what the figures are taken on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = f"{os.cpu_count()} cores ({model[1] if model else 'unknown'})"
    return f"Python {platform.python_version()}; {cores}, load {os.getloadavg()[0]:.1f} before"


SCENARIOS: Mapping[str, Callable[[Bench, int], Iterator[Row]]] = {
    "parse": parse,
    "rows": rows,
    "dedup": dedup,
    "whole": whole,
    "same": same,
    "peers": peers,
}
QUICK = ("parse", "rows", "dedup")


@click.command()
@click.argument("scenario", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--rows", "size", default=FULL, show_default=True, help="Replies of the bank.")
@click.option("--million", is_flag=True, help="`whole` at a million rows too, and how linear it is.")
@click.option("--peers", "pythons", multiple=True, metavar="PYTHON", help="An interpreter that has other tools.")
@click.option(
    "--corpus",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(tempfile.gettempdir()) / "curation-corpus",
    show_default=True,
    help="Where banks are kept from one run to the next.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Leave the projects and what the stages wrote in a new folder."
)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures to a file too.")
def main(
    scenario: tuple[str, ...],
    size: int,
    million: bool,
    pythons: tuple[str, ...],
    folder: Path,
    keep: Path | None,
    out: Path | None,
) -> None:
    """Measure curation on a bank of replies with planted faults."""
    head = machine()
    click.echo(f"# Curation\n\n{head}")
    bench = Bench(folder.resolve(), keep.resolve() if keep else None, [*pythons, sys.executable])
    found: dict[str, list[Row]] = {}
    for name in scenario or QUICK:
        measured = whole(bench, size, million) if name == "whole" else SCENARIOS[name](bench, size)
        found[name] = table(name, measured)
    if out:
        document = {"machine": head, "scenarios": {name: [asdict(row) for row in rows] for name, rows in found.items()}}
        out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(not held for rows in found.values() for row in rows for held in row.checks.values()))


if __name__ == "__main__":
    main()
