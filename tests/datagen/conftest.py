import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result

from datagen.__main__ import main
from datagen.teacher.server import Faults, Teacher, create_app

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-0123456789abcdef"

PARAMS = """\
# a comment that stays
topics: # the grid
  economy: {{name: 经济发展, samples: {samples}, round: 0}}
  education: {{name: 教育体系, samples: {samples}, round: 0}} # behind
difficulties:
  basic: {{name: 基础, means: 一步}}
  advanced: {{name: 高级, means: 多步}}
types:
  factual: {{name: 事实性, means: 事实}}
  evaluative: {{name: 评估性, means: 判断}}
teachers:
  main:
    base_url: {base_url}
    model: {model}
    api_key_env: DATAGEN_TEST_KEY
    temperature: 1.0
    max_tokens: {max_tokens}
    extra: {extra}
limits: {{concurrency: {concurrency}, timeout: {timeout}, hung: {hung}, attempts: {attempts}, rpm: {rpm}, tpm: {tpm}}}
budget: {{calls: {calls}, tokens: {tokens}, money: {money}, hours: {hours}}}
prices: {prices}
generate:
  teacher: main
  prompt: {prompt}
  chain: {chain}
  reasks: {reasks}
  min_yield: {min_yield}
"""
USUAL = {
    "samples": 3,
    "base_url": "embedded",
    "model": "embedded",
    "chain": "short",
    "concurrency": 4,
    "timeout": 10.0,
    "hung": "null",
    "rpm": "null",
    "tpm": "null",
    "calls": "null",
    "tokens": "null",
    "money": "null",
    "hours": "null",
    "prices": "{embedded: {input: 1.0, output: 2.0, batch: 0.5}}",
    "attempts": 6,
    "reasks": 2,
    "max_tokens": 2048,
    "extra": "{}",
    "prompt": "write",
    "min_yield": 0.95,
}
CALLS = 12  # a topic's, with the usual params: 2 × 2 cells, 3 samples


class Project:
    """A folder with a params.yaml and a store, which is the current folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.store = folder / ".store" / "responses.sqlite"
        self.out = folder / "economy.jsonl"
        self.metrics = folder / "economy.json"
        monkeypatch.chdir(folder)
        for name in ("DATAGEN_STORE", "DVC_ROOT", "DVC_STAGE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("DATAGEN_TEST_KEY", CANARY)
        self.params()

    def params(self, **changed: object) -> None:
        """Write params.yaml: the usual values, some of them changed."""
        text = PARAMS.format(**(USUAL | changed))
        (self.folder / "params.yaml").write_text(text, encoding="utf-8")

    def invoke(self, *args: str) -> Result:
        """Run a command in this process; a bug in it is raised."""
        result = CliRunner().invoke(main, args)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def generate(self) -> Result:
        """Run the stage for one topic in this process."""
        return self.invoke("generate", "economy", str(self.out), str(self.metrics))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds in the store, read beside whoever has it open."""
        with contextlib.closing(sqlite3.connect(self.store)) as db:
            return db.execute(query).fetchall()

    def start(self, *args: str) -> "subprocess.Popen[str]":
        """Start a command as a process of its own, to be killed or interrupted."""
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-m", "datagen", *args], stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


@contextlib.contextmanager
def serving(app: Callable[..., object]) -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
    )
    threading.Thread(target=server.run, daemon=True).start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True  # it takes a while, and nobody has to wait for it


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Teacher, str]]]:
    """Serve the embedded teacher, or another application, on a loopback port; several if asked."""
    with contextlib.ExitStack() as stack:

        def start(app: Callable[..., object] | None = None, **faults: object) -> tuple[object, str]:
            app = app or create_app(Faults(**faults))
            return app, stack.enter_context(serving(app))

        yield start


class Disk:
    """A small disk of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def __call__(self, megabytes: int) -> Path:
        """Mount it and return its folder."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(self.folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk takes root, or `unshare -rm` before the command")
        return self.folder

    def fill(self) -> None:
        """Leave not a byte free."""
        with open(self.folder / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def clear(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    yield found
    subprocess.run(["umount", "--lazy", str(found.folder)], capture_output=True)


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition, the shortest time that it takes."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture(name="until")
def until_() -> Callable[..., None]:
    return until
