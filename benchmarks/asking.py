"""Measure the asking loop against the embedded teacher on a port: seconds, CPU, memory, calls; other tools beside it.

python benchmarks/asking.py [SCENARIO…] [--all] [--calls N] [--repeat N] [--peers NAME…] [--python PATH]… [--json FILE]

A black box: `datagen teacher` is one process, `datagen fetch` in a project of its own another, each on its own core
(Linux). CPU seconds are the client's; calls are those that the server counted. A peak is of all the client's processes
together, a MB being 10^6 bytes. Each bound stands with its figure as ok or MISSED; the exit status is 1 if datagen
missed one. `--peers` has the scripts in `peers/` send the same requests, each by the first interpreter that has its
library; those of `--python` come before this one.
"""

import argparse
import contextlib
import http.client
import importlib.metadata
import json
import operator
import os
import re
import select
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple, Protocol

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PEER_FOLDER = Path(__file__).with_name("peers")
KEY_NAME = "ASKING_BENCHMARK_KEY"
LOOK = 0.05  # seconds between two looks at a process's memory
STARTS = 3  # runs whose median is a client's start-up
TOPICS = 4
KILLS = 20
SEED = 7  # of the kills
LEVELS = (16, 24, 32, 48, 64, 96)  # fixed numbers of calls in flight, among which saturation looks for the best
SHARE = 0.9  # of the best one's throughput
DEAD_WALL = 15.0  # seconds: a run that only hangs waits for a timeout of 3 s, and tries more than once
OPS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, "==": operator.eq}

Bounds = dict[str, tuple[str, float]]


class Figures(NamedTuple):
    """What a run came to."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds."""
    per_call: float
    """Milliseconds of CPU beyond start-up, for each request."""
    speed: float
    """Requests a second, from the first call to the end."""
    flight: float
    """Calls being served, the mean over time."""
    peak: float
    """MB."""
    calls: float
    """That the server saw."""
    refused: float
    """Calls that it answered 429."""
    valid: float
    """Requests that came to a valid reply."""
    extra: float
    """Replies written out that the client does not hold: paid for in vain."""
    server: float
    """CPU seconds of the server."""


# Field: its heading and its format; a field that is not here goes by its own name.
SHOWN = {
    "wall": ("wall s", ".2f"),
    "cpu": ("CPU s", ".2f"),
    "per_call": ("ms/call", ".2f"),
    "speed": ("requests/s", ".0f"),
    "flight": ("in flight", ".0f"),
    "peak": ("peak MB", ".0f"),
    "server": ("server CPU s", ".2f"),
    "one": ("CPU s, one call", ".2f"),
    "nothing": ("CPU s, nothing to ask", ".2f"),
}


@dataclass(frozen=True)
class Scenario:
    """A server, how much is asked of it, and the bounds on what comes of it."""

    name: str
    server: str
    """Switches of `datagen teacher`."""
    bounds: Bounds = field(default_factory=dict)
    """By field of Figures."""
    calls: int = 2000
    concurrency: int = 256
    timeout: float = 120.0
    terminal: bool = False
    """The client's stderr is a terminal: it draws its bar."""
    limit: float = 600.0
    """Seconds after which the client is killed."""


FAULTY = "--refuse 0.1 --retry-after 1 --error 0.05 --hang 0.02 --hang-for 60 --malformed 0.05 --latency 0.2"
SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    "cpu": (
        Scenario("cpu", "--latency 0.05", {"per_call": ("<=", 1.0)}),
        Scenario("cpu, at a terminal", "--latency 0.05", {"per_call": ("<=", 1.0)}, terminal=True),
    ),
    "latency": (Scenario("latency", "--latency 0.5", {"wall": ("<=", 6), "flight": (">=", 220), "peak": ("<=", 100)}),),
    "grid": (Scenario("grid", "", {"peak": ("<=", 100)}, calls=200_000, limit=3000),),
    "faults": (Scenario("faults", FAULTY, {"wall": ("<=", 70)}),),
    "slots": (Scenario("32 slots", "--capacity 32 --latency 0.2", {"wall": ("<=", 16), "refused": ("<", 300)}),),
    "rate": (Scenario("200/s", "--rate 200 --burst 200 --latency 0.2", {"wall": ("<=", 11), "refused": ("<", 200)}),),
    # In proportion: 16 s are 1.28 times the least that 32 slots take, 11 s are 1.22 times the least of 200/s. To what
    # is over in 4 s come 1.5 s more: start-up and one Retry-After at the end do not shrink with it.
    "other": (
        Scenario("8 slots", "--capacity 8 --latency 0.2", {"wall": ("<=", 32), "refused": ("<", 300)}, calls=1000),
        Scenario("100 slots", "--capacity 100 --latency 0.2", {"wall": ("<=", 6.7), "refused": ("<", 300)}),
        Scenario("32 slots, 1 s", "--capacity 32 --latency 1", {"wall": ("<=", 40), "refused": ("<", 300)}, calls=1000),
        Scenario("50/s", "--rate 50 --burst 50 --latency 0.2", {"wall": ("<=", 23), "refused": ("<", 200)}, calls=1000),
        Scenario("500/s", "--rate 500 --burst 500 --latency 0.2", {"wall": ("<=", 5.5), "refused": ("<", 200)}),
        # Whatever the load: six rounds of a second each for the unluckiest, and fewer calls in flight only cost time.
        Scenario("30 % refused", "--refuse 0.3 --retry-after 1 --latency 0.2", {"wall": ("<=", 15)}),
        Scenario("20 % errors", "--error 0.2 --latency 0.2", {"wall": ("<=", 20)}),
    ),
}
SATURATED = ("--workers 24 --latency 0.2", "--strain 48 --latency 0.2")
DEAD = (
    Scenario("nobody listens", "", limit=120),
    Scenario("only 500", "--error 1", limit=120),
    Scenario("only hangs", "--hang 1", timeout=3, limit=120),
)
SPECIAL = ("saturation", "dead", "kills")


class Ran(NamedTuple):
    """How a process went."""

    wall: float
    cpu: float
    peak: float
    code: int
    said: str
    """What it wrote to stderr."""


def cores() -> tuple[int, int]:
    """Return the client's core and the server's; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 % len(usable)]


@cache
def environment() -> dict[str, str]:
    """Return what processes of the project get: this checkout's packages, a key, no store but their folder's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATAGEN_", "DVC_"))}
    return kept | {"PYTHONPATH": str(ROOT), KEY_NAME: "sk-benchmark-0123456789"}


def run(command: Sequence[str], folder: Path, *, terminal: bool = False, limit: float = 600.0) -> Ran:
    """Run a client on its core to its end, and weigh it; past the limit it is killed with its children."""
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(open(folder / "stderr", "w+b"))
        screen, stderr = os.openpty() if terminal else (None, said.fileno())
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment() | {"HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=partial(os.sched_setaffinity, 0, {cores()[0]}),
        )
        stack.callback(end, process.pid)
        ended = os.pidfd_open(process.pid)
        watched = [ended] if screen is None else [ended, screen]
        for descriptor in watched if screen is None else [*watched, stderr]:
            stack.callback(os.close, descriptor)
        peaks: dict[int, float] = {}
        while ended not in (ready := select.select(watched, [], [], LOOK)[0]):
            if screen in ready:
                said.write(os.read(screen, 65536))
            for pid in family(process.pid):
                peaks[pid] = max(peaks.get(pid, 0.0), weight(pid))
            if time.monotonic() - start > limit:
                end(process.pid)
        wall = time.monotonic() - start
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return Ran(wall, usage.ru_utime + usage.ru_stime, sum(peaks.values()), process.returncode, text)


def end(group: int) -> None:
    """Kill a client and what it may have left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from family(int(child))


def weight(pid: int) -> float:
    """Return the most memory that a process has held, in MB; 0 once it is gone.

    Not `ru_maxrss`, which starts at what the parent held.
    """
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    return 0.0


class Stats(NamedTuple):
    """What the server has counted since its first call."""

    calls: dict[str, int]
    """By what became of them."""
    replies: int
    """Completions written to their end, which a provider would bill."""
    seconds: float
    cpu_seconds: float
    serving: int
    serving_mean: float


class Server:
    """`datagen teacher`, as it can be asked from outside."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/v1"

    def stats(self) -> Stats:
        """Return its counts."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", "/stats")
            found = json.load(connection.getresponse())
        return Stats(*(found[name] for name in Stats._fields))

    def at_rest(self) -> Stats:
        """Return its counts once no call is being served."""
        while (stats := self.stats()).serving:
            time.sleep(0.02)
        return stats


@contextlib.contextmanager
def serving(switches: str) -> Iterator[Server]:
    """Serve the embedded teacher on a free port and its core."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "datagen", "teacher", "--port", "0", *shlex.split(switches)],
            env=environment(),
            stderr=said,
            preexec_fn=partial(os.sched_setaffinity, 0, {cores()[1]}),
        )
        try:
            yield Server(listening(process, said.fileno()))
        finally:
            process.kill()
            process.wait()


def listening(process: "subprocess.Popen[bytes]", said: int) -> int:
    """Wait until the server answers; return the port that it names."""
    while True:
        text = os.pread(said, 4096, 0).decode(errors="replace")
        if found := re.search(r"127\.0\.0\.1:(\d+)", text):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(found[1]))) == 0:
                    return int(found[1])
        elif process.poll() is not None:
            raise SystemExit(text)
        time.sleep(0.02)


def project(folder: Path, scenario: Scenario, url: str) -> None:
    """Make a folder a project of so many requests: params.yaml, with another grid and another endpoint."""
    yaml = YAML()
    document = yaml.load(ROOT / "params.yaml")
    wide, deep, samples = sizes(scenario.calls)
    for axis, size in (("types", wide), ("difficulties", deep), ("topics", len(samples))):
        for slug in list(document[axis])[size:]:
            del document[axis][slug]
    for topic, count in zip(document["topics"].values(), samples, strict=True):
        topic["samples"] = count
    teacher = document["teachers"][document["generate"]["teacher"]]
    teacher |= {"base_url": url, "model": "embedded", "api_key_env": KEY_NAME}
    document["limits"] |= {"concurrency": scenario.concurrency, "timeout": scenario.timeout}
    (folder / ".dvc").mkdir(parents=True)
    yaml.dump(document, folder / "params.yaml")


def sizes(calls: int) -> tuple[int, int, list[int]]:
    """Return how many types and difficulties, and which samples of each topic, make exactly so many requests."""
    cells, wide, deep = max((w * d, w, d) for w in range(1, 6) for d in range(1, 4) if calls % (w * d) == 0)
    samples = calls // cells
    topics = min(TOPICS, samples)
    return wide, deep, [samples // topics + (n < samples % topics) for n in range(topics)]


class Client(Protocol):
    """Something that asks."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def prepare(self, folder: Path, scenario: Scenario, url: str) -> list[str]:
        """Lay out a folder for a job; return the command that does it."""

    def came(self, folder: Path) -> tuple[int, int]:
        """Return how many replies the client holds, and how many requests came to a valid one."""


class Datagen:
    """The project's own loop, by its command."""

    name = "datagen"

    def prepare(self, folder: Path, scenario: Scenario, url: str) -> list[str]:
        """Write params.yaml."""
        project(folder, scenario, url)
        return [sys.executable, "-m", "datagen", "fetch"]

    def came(self, folder: Path) -> tuple[int, int]:
        """Count in the store; a request has at most one reply without a fault."""
        store = folder / ".store" / "responses.sqlite"
        if not store.exists():
            return 0, 0
        # Read-only: the last of its readers would otherwise tidy up after a killed writer.
        opened = sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)
        with contextlib.closing(opened) as db, contextlib.suppress(sqlite3.OperationalError):
            held, bad = db.execute("SELECT count(*), count(fault) FROM replies").fetchone()
            return held, held - bad
        return 0, 0  # no tables yet


@dataclass(frozen=True)
class Peer:
    """A script of `peers/` and an interpreter that has what it needs."""

    name: str
    version: str
    python: str
    script: tuple[str, ...]
    """With its own arguments."""

    def prepare(self, folder: Path, scenario: Scenario, url: str) -> list[str]:
        """Write the very bodies that the project would send."""
        import msgspec

        from datagen import grid

        project(folder, scenario, url)
        requests = folder / "requests.jsonl"
        with open(requests, "wb") as file:
            for request in grid.read(path=folder / "params.yaml").requests():
                file.write(msgspec.json.encode(request.body) + b"\n")
        script, *rest = self.script
        given = [str(requests), url, str(scenario.concurrency), str(folder / "replies.jsonl")]
        return [self.python, "-E", str(PEER_FOLDER / script), *given, *rest]

    def came(self, folder: Path) -> tuple[int, int]:
        """Judge the replies as curation does."""
        from schemas.chain import Malformed
        from schemas.repair import mend

        path = folder / "replies.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return len(lines), sum(not isinstance(mend(json.loads(line)), Malformed) for line in lines)


# The script and its arguments; the distributions whose versions are shown, the first of which must be there.
PEERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bare aiohttp": (("with_aiohttp.py",), ("aiohttp", "uvloop", "orjson")),
    "openai on aiohttp": (("with_openai.py", "aiohttp"), ("openai", "aiohttp")),
    "openai": (("with_openai.py",), ("openai", "httpx2")),
    "litellm": (("with_litellm.py",), ("litellm",)),
    "curator": (("with_curator.py",), ("bespokelabs-curator",)),
    "sdg_hub": (("with_sdg_hub.py",), ("sdg-hub",)),
    "distilabel": (("with_distilabel.py",), ("distilabel",)),
    "Data Designer": (("with_data_designer.py",), ("data-designer",)),
}
PROBE = """
import importlib.metadata, sys
found = []
for name in sys.argv[1:]:
    try:
        found.append(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        if not found:
            sys.exit(1)
print(", ".join(found))
"""


def peer(name: str, pythons: Sequence[str]) -> Peer | None:
    """Return the peer of this name, None if no interpreter has its library."""
    script, distributions = PEERS[name]
    for python in pythons:
        probe = subprocess.run([python, "-E", "-c", PROBE, *distributions], capture_output=True, text=True)
        if probe.returncode == 0:
            return Peer(name, probe.stdout.strip(), python, script)
    return None


@dataclass(frozen=True)
class Row:
    """A line of a table: what was measured and how it stands to its bounds."""

    scenario: str
    client: str
    figures: Mapping[str, float]
    checks: dict[str, bool]
    note: str = ""


class Start(NamedTuple):
    """What it takes to begin."""

    one: float
    """CPU seconds of a run with one call."""
    nothing: float
    """CPU seconds of the same command again; for datagen, which holds the reply, a run with nothing to ask."""
    wall: float
    """Seconds of the run with one call."""


def started(client: Client) -> Start:
    """Return what a client's start-up costs, the median of some runs."""
    found = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as name, serving("") as server:
            folder = Path(name)
            command = client.prepare(folder, Scenario("start-up", "", calls=1), server.url)
            one, again = run(command, folder), run(command, folder)
            found.append(Start(one.cpu, again.cpu, one.wall))
    return Start(*(median(column) for column in zip(*found, strict=True)))


def measure(client: Client, scenario: Scenario, start: Start) -> tuple[Figures, str]:
    """Do a job once, from nothing; return what it came to, and how the client failed if it did."""
    with tempfile.TemporaryDirectory() as name, serving(scenario.server) as server:
        folder = Path(name)
        command = client.prepare(folder, scenario, server.url)
        ran = run(command, folder, terminal=scenario.terminal, limit=scenario.limit)
        stats = server.stats()
        held, valid = client.came(folder)
    figures = Figures(
        wall=ran.wall,
        cpu=ran.cpu,
        per_call=(ran.cpu - start.one) / max(scenario.calls - 1, 1) * 1000,
        speed=scenario.calls / (stats.seconds or 1.0),
        flight=stats.serving_mean,
        peak=ran.peak,
        calls=sum(stats.calls.values()),
        refused=stats.calls.get("refuse", 0),
        valid=valid,
        extra=stats.replies - held,
        server=stats.cpu_seconds,
    )
    return figures, f"exit {ran.code}: {last(ran.said)}" if ran.code else ""


def last(said: str) -> str:
    """Return the last line of a text that says anything, shortened and fit for a table."""
    lines = [line.replace("|", " ").strip() for line in said.splitlines() if re.search(r"[^\W\d_]", line)]
    return lines[-1][:200] if lines else ""


def checked(figures: Mapping[str, float], bounds: Bounds) -> dict[str, bool]:
    """Return each bound in words, and whether it holds."""
    return {
        f"{name} {round(figures[name], 2):.9g} {sign} {round(bound, 2):.9g}": OPS[sign](figures[name], bound)
        for name, (sign, bound) in bounds.items()
    }


def starting(client: Client, start: Start) -> Row:
    """Show a start-up; nobody but datagen is held to a bound."""
    bounds: Bounds = {"one": ("<", 1.0)} if isinstance(client, Datagen) else {}
    return Row("start-up", client.name, start._asdict(), checked(start._asdict(), bounds))


def plain(scenarios: Sequence[Scenario], client: Client, start: Start, repeat: int) -> Iterator[Row]:
    """Measure scenarios, each so many times; figures are medians, but `valid` is that of the worst run.

    A terminal is for datagen alone: what the others draw there says nothing.
    """
    for scenario in scenarios:
        if scenario.terminal and not isinstance(client, Datagen):
            continue
        runs, notes = zip(*(measure(client, scenario, start) for _ in range(repeat)), strict=True)
        figures = Figures(*(median(column) for column in zip(*runs, strict=True)))._asdict()
        figures["valid"] = min(run.valid for run in runs)
        bounds = scenario.bounds | {"valid": ("==", scenario.calls)}
        yield Row(scenario.name, client.name, figures, checked(figures, bounds), next(filter(None, notes), ""))


def saturation(ours: Client, start: Start, bare: Client) -> Iterator[Row]:
    """Compare throughput, where a server never refuses, with the best that a fixed number of calls in flight brings.

    The fixed numbers are tried by a client that has no control, bare aiohttp. Ours has to find one first, on its way
    down from all: the run is long enough for what it settles at to weigh.
    """
    for switches in SATURATED:
        speeds = {}
        for level in LEVELS:
            scenario = Scenario(switches, switches, calls=1000, concurrency=level)
            figures, note = measure(bare, scenario, Start(0.0, 0.0, 0.0))
            speeds[level] = figures.speed
            yield Row(switches, f"{bare.name}, {level}", figures._asdict(), {}, note)
        scenario = Scenario(switches, switches, calls=10_000)
        figures, note = measure(ours, scenario, start)
        bounds: Bounds = {"speed": (">=", SHARE * max(speeds.values())), "valid": ("==", scenario.calls)}
        yield Row(switches, ours.name, figures._asdict(), checked(figures._asdict(), bounds), note)


def dead(ours: Client) -> Iterator[Row]:
    """See how a run ends that cannot succeed."""
    for scenario in DEAD:
        with tempfile.TemporaryDirectory() as name, serving(scenario.server) as server:
            url = server.url
            if not scenario.server:
                with socket.create_server(("127.0.0.1", 0)) as free:
                    url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
            ran = run(ours.prepare(Path(name), scenario, url), Path(name), limit=scenario.limit)
            calls = sum(server.stats().calls.values())
        lines = len(ran.said.strip().splitlines())
        figures = {"wall": ran.wall, "cpu": ran.cpu, "calls": calls, "lines": lines, "exit": ran.code}
        checks = checked(figures, {"wall": ("<=", DEAD_WALL), "lines": ("==", 1), "exit": ("==", 1)})
        yield Row(scenario.name, ours.name, figures, checks, last(ran.said))


def kills(ours: Datagen) -> Iterator[Row]:
    """Kill one job again and again, let it end, and compare it with one that was left alone.

    A kill comes when the store holds a drawn number of replies, from none to nearly all. What it costs is what the
    server then writes out and the store does not hold.
    """
    scenario = Scenario("kills", "--latency 0.2")
    moments = sorted(Random(SEED).sample(range(scenario.calls), KILLS))
    lost: list[int] = []
    with tempfile.TemporaryDirectory() as name, serving(scenario.server) as server:
        struck, calm = Path(name) / "struck", Path(name) / "calm"
        command = ours.prepare(struck, scenario, server.url)
        pinned = partial(os.sched_setaffinity, 0, {cores()[0]})
        for moment in moments:
            with subprocess.Popen(
                command, cwd=struck, env=environment(), stderr=subprocess.DEVNULL, preexec_fn=pinned
            ) as process:
                while process.poll() is None and ours.came(struck)[0] < moment:
                    time.sleep(0.002)
                if process.poll() is not None:
                    break
                process.kill()
            lost.append(server.at_rest().replies - ours.came(struck)[0] - sum(lost))
        ran = run(command, struck)
        seen, (held, valid) = server.stats().replies, ours.came(struck)
        run(ours.prepare(calm, scenario, server.url), calm)
        same = exported(struck) == exported(calm)
    figures = {"kills": len(lost), "most": max(lost, default=0), "extra": seen - held, "valid": valid, "same": same}
    bounds: Bounds = {
        "kills": ("==", KILLS),
        "most": ("<=", scenario.concurrency),
        "extra": ("<=", sum(lost)),
        "valid": ("==", scenario.calls),
        "same": ("==", True),
    }
    note = f"extra by kill {lost}" if ran.code == 0 else last(ran.said)
    yield Row("kills", ours.name, figures, checked(figures, bounds), note)


def special(name: str, start: Start, pythons: Sequence[str]) -> Iterator[Row]:
    """Measure one of SPECIAL."""
    if name == "dead":
        return dead(Datagen())
    if name == "kills":
        return kills(Datagen())
    bare = peer("bare aiohttp", pythons)
    return saturation(Datagen(), start, bare) if bare else iter(())


def exported(folder: Path) -> bytes:
    """Return the files that the stage writes of each topic, one after the other."""
    out = b""
    for slug in YAML(typ="safe").load(folder / "params.yaml")["topics"]:
        path = folder / f"{slug}.jsonl"
        ran = run([sys.executable, "-m", "datagen", "generate", slug, str(path), f"{path}.metrics"], folder)
        if ran.code:
            raise SystemExit(ran.said)
        out += path.read_bytes()
    return out


def table(name: str, rows: Iterable[Row]) -> list[Row]:
    """Print rows as they come, a column for each figure; return them."""
    shown: list[Row] = []
    for row in rows:
        if not shown:
            heads = ["scenario", "client", *(SHOWN.get(field, (field, ""))[0] for field in row.figures), "bounds"]
            print(f"\n## {name}\n\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        cells = [format(figure, SHOWN.get(field, ("", ".0f"))[1]) for field, figure in row.figures.items()]
        checks = [f"{text} {'ok' if held else 'MISSED'}" for text, held in row.checks.items()]
        said = "; ".join(filter(None, [*checks, row.note]))
        print(f"| {' | '.join([row.scenario, row.client, *cells, said])} |", flush=True)
        shown.append(row)
    return shown


def machine() -> str:
    """Return what the figures are taken on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    client, server = cores()
    shared = f"client on core {client}, server on core {server}"
    if client == server:
        shared = "client and server share the ONE core: seconds mean little"
    versions = []
    for name in ("aiohttp", "uvloop", "uvicorn", "httptools"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return (
        f"Python {sys.version.split()[0]}, {', '.join(versions)}; {os.cpu_count()} cores"
        f" ({model[1] if model else 'unknown'}), load {os.getloadavg()[0]:.1f} before; {shared}"
    )


def main() -> None:
    """Measure what is named and print a table for each."""
    sys.path.insert(0, str(ROOT))  # this checkout's packages, whichever are installed
    known = (*SCENARIOS, *SPECIAL)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"of {', '.join(known)}; all but grid if none")
    parser.add_argument("--all", action="store_true", help="grid too, which takes minutes")
    parser.add_argument(
        "--calls", type=int, metavar="N", help="requests of each scenario, which is then without bounds"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each; figures are medians")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help=f"beside datagen; all if none: {', '.join(PEERS)}")
    parser.add_argument("--without", action="store_true", help="leave datagen itself out")
    parser.add_argument("--python", action="append", default=[], metavar="PATH", help="an interpreter that has a peer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    args = parser.parse_args()
    for name, there in [*((name, known) for name in args.scenario), *((name, PEERS) for name in args.peers or ())]:
        if name not in there:
            parser.error(f"{name}: there are {', '.join(there)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of the blocks that end both processes
    head = machine()
    print(f"# Asking\n\n{head}\n")
    pythons = [*args.python, sys.executable]
    clients: list[Client] = [] if args.without else [Datagen()]
    for name in () if args.peers is None else args.peers or PEERS:
        other = peer(name, pythons)
        clients += [other] if other else []
        print(f"- {name}: {other.version if other else 'not installed'}", flush=True)
    starts = {client.name: started(client) for client in clients}
    rows = table("start-up", (starting(client, starts[client.name]) for client in clients))
    for name in args.scenario or [name for name in known if name != "grid" or args.all]:
        if name in SCENARIOS:
            scenarios = SCENARIOS[name]
            if args.calls:
                scenarios = tuple(replace(scenario, calls=args.calls, bounds={}) for scenario in scenarios)
            measured = [plain(scenarios, client, starts[client.name], args.repeat) for client in clients]
            rows += table(name, (row for found in measured for row in found))
        elif not args.without:
            rows += table(name, special(name, starts[Datagen.name], pythons))
    if args.json:
        document = {"machine": head, "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(not held for row in rows if row.client == Datagen.name for held in row.checks.values()))


if __name__ == "__main__":
    main()
