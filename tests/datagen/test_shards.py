import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest

from datagen.client import Ask, Failure, Reply
from datagen.grid import Request, read
from datagen.shards import Team, Worker, sources
from datagen.teacher.server import create_app

pytest.importorskip("ray")

REQUESTS = 24  # of both topics, with the usual params
HEAD = """
import sys, ray
ray.init(
    "local", num_cpus=3, include_dashboard=False, object_store_memory=100 * 2**20, _temp_dir=sys.argv[1],
    log_to_driver=False, logging_level="ERROR",
)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from datagen.__main__ import main; main(sys.argv[1:])"
OTHER_CODE = (
    "import sys; from datagen import shards; shards.sources = lambda: ''; "
    "from datagen.__main__ import main; main(sys.argv[1:])"
)


class Cluster(NamedTuple):
    address: str
    folder: Path
    head: psutil.Process

    def workers(self, at: str) -> list[psutil.Process]:
        """The processes that are connected to an endpoint."""
        port = urlsplit(at).port
        found = []
        for process in self.head.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += [process] * any(one.raddr and one.raddr.port == port for one in process.net_connections())
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Ray cluster of one node, which knows no key; it ends with this process, however that ends."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(prefix="ray-") as folder:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.delenv("DATAGEN_TEST_KEY", raising=False)
        pipe = subprocess.PIPE
        head = subprocess.Popen([sys.executable, "-c", HEAD, folder], stdin=pipe, stdout=pipe, text=True)
        assert head.stdout
        address = head.stdout.readline().strip()
        assert address
        yield Cluster(address, Path(folder), psutil.Process(head.pid))
        head.communicate()


class Ended(NamedTuple):
    code: int
    stdout: str
    stderr: str


def ended(process: "subprocess.Popen[str]") -> Ended:
    """What a command came to."""
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


def fetch(project: Any, cluster: Cluster, workers: int = 2) -> "subprocess.Popen[str]":
    return project.start("fetch", "--workers", str(workers), "--address", cluster.address)


def exported(project: Any) -> bytes:
    """The rows of one topic, which asks for nothing that the store holds."""
    result = project.generate()
    assert result.exit_code == 0, result.stderr
    return project.out.read_bytes()


def run_code(code: str, *args: str) -> Ended:
    pipe = subprocess.PIPE
    return ended(subprocess.Popen([sys.executable, "-c", code, *args], stdout=pipe, stderr=pipe, text=True))


def test_workers_ask_once_within_the_limits_and_bring_the_bytes_of_a_run_without_them(project, serve, cluster):
    teacher, base_url = serve(latency=0.1)
    project.params(base_url=base_url, concurrency=5)

    result = ended(fetch(project, cluster, workers=3))

    said = "24 of 24 valid, 0 rejected, 0 without a reply, 24 asked now"
    assert result.code == 0, result.stderr
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert teacher.calls.total() == REQUESTS
    assert teacher.meter.most == 5
    with_workers = exported(project)
    assert teacher.calls.total() == REQUESTS
    project.store.unlink()
    assert exported(project) == with_workers


def test_the_key_reaches_the_workers_and_no_file_of_rays(project, serve, cluster):
    teacher, keys = create_app(), set()

    async def app(scope, receive, send):
        keys.update(value for name, value in scope["headers"] if name == b"authorization")
        await teacher(scope, receive, send)

    _, base_url = serve(app)
    project.params(base_url=base_url, samples=1)

    assert ended(fetch(project, cluster, workers=1)).code == 0

    key = os.environ["DATAGEN_TEST_KEY"].encode()
    assert keys == {b"Bearer " + key}
    files = [path for path in cluster.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if key in path.read_bytes()]


def test_the_budget_is_never_exceeded_and_its_end_is_said_once(project, serve, cluster):
    teacher, base_url = serve(latency=0.05)
    project.params(base_url=base_url, calls=10)

    result = ended(fetch(project, cluster))

    assert result.code == 1
    assert "fetch: budget.calls of 10 is used up" in result.stderr
    assert "10 of 24 are in the store, 14 are left" in result.stderr
    assert result.stderr.count("\n") == 1
    assert teacher.calls.total() == 10


def test_what_a_killed_worker_had_out_is_lost_and_asked_again_by_another(project, serve, until, cluster):
    teacher, base_url = serve(latency=0.3)
    project.params(base_url=base_url, concurrency=4, attempts=1)
    process = fetch(project, cluster)
    until(lambda: teacher.serving == 4 and cluster.workers(at=base_url))
    cluster.workers(at=base_url)[0].send_signal(signal.SIGKILL)

    result = ended(process)

    assert result.code == 0, result.stderr
    said = re.search(r"died with (\d) calls out; they may have been billed, and are asked again", result.stderr)
    assert said, result.stderr
    assert "24 of 24 valid" in result.stderr
    lost = int(said[1])
    assert project.rows("SELECT verdict, count(*) FROM attempts GROUP BY verdict") == [("lost", lost), ("valid", 24)]
    assert project.rows("SELECT calls FROM ledger") == [(24 + lost,)]


def test_ctrl_c_waits_for_what_the_workers_have_out(project, serve, until, cluster):
    teacher, base_url = serve(latency=0.3)
    project.params(base_url=base_url)
    process = fetch(project, cluster)
    until(lambda: teacher.serving == 4)
    process.send_signal(signal.SIGINT)

    result = ended(process)

    assert result.code == 130
    asked = teacher.calls.total()
    assert f"fetch: interrupted; {asked} of 24 are in the store, {24 - asked} are left" in result.stderr
    assert not cluster.workers(at=base_url)


def test_a_dead_endpoint_stops_all_workers_with_one_line(project, cluster):
    project.params(base_url="http://127.0.0.1:9/v1")

    result = ended(fetch(project, cluster))

    assert result.code == 1
    assert result.stderr.startswith("fetch: http://127.0.0.1:9/v1: no reply in ")
    assert result.stderr.count("\n") == 1


class Near:
    """A worker in this process, to be called as one of Ray's."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.called: list[asyncio.Future[Any]] = []

    def __getattr__(self, name: str) -> SimpleNamespace:
        def remote(*args: object) -> "asyncio.Future[Any]":
            self.called.append(asyncio.ensure_future(getattr(self.worker, name)(*args)))
            return self.called[-1]

        return SimpleNamespace(remote=remote)

    def kill(self) -> None:
        for called in self.called:
            called.cancel()


def asking(ask: Ask) -> Near:
    """A worker that asks in this way."""
    return Near(Worker(lambda teacher, concurrency: contextlib.nullcontext(ask)))


async def unreached(request: Request, timeout: float) -> Failure:
    return Failure("unreached", None, "no route to host")


async def asleep(request: Request, timeout: float) -> Failure:
    await asyncio.sleep(60)
    raise AssertionError


async def answered(request: Request, timeout: float) -> Reply:
    return Reply("", "stop", "", 0, 0)


def team_of(*workers: Near) -> Team:
    begin = (msgspec.msgpack.encode(read().teacher), 4, {}, sources())
    return Team(len(workers), begin, iter(workers).__next__, Near.kill)


def test_a_call_that_the_loop_gives_up_is_given_up_by_its_worker(project, serve):
    teacher, base_url = serve(hang=1)
    project.params(base_url=base_url)

    async def run() -> None:
        team = team_of(Near(Worker()))
        await team.ready()
        asked = asyncio.create_task(team.ask(next(read().requests()), 60.0))
        while not teacher.serving:
            await asyncio.sleep(0.005)
        asked.cancel()
        while teacher.serving:
            await asyncio.sleep(0.005)
        await team.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_worker_that_alone_reaches_nobody_ends_the_run(project):
    async def run() -> list[Reply | Failure]:
        team = team_of(asking(unreached), asking(answered))
        await team.ready()
        rounds = [await asyncio.gather(*(team.ask(request, 9.0) for request in read().requests())) for _ in range(3)]
        await team.close()
        return rounds[-1]

    found = asyncio.run(asyncio.wait_for(run(), 20))

    why = "while other workers have replies: no route to host"
    assert all(isinstance(one, Failure) and one.kind == "fatal" and one.detail.endswith(why) for one in found)


def test_each_worker_has_as_many_calls_out_as_the_others(project):
    async def run() -> list[int]:
        team = team_of(asking(asleep), asking(asleep), asking(asleep))
        while len(team.shards) < 3:
            await asyncio.sleep(0)
        asked = [asyncio.create_task(team.ask(request, 60.0)) for request in read().requests()]
        await asyncio.sleep(0)
        out = [len(shard.out) for shard in team.shards]
        await team.close()
        await asyncio.gather(*asked)
        return out

    assert asyncio.run(asyncio.wait_for(run(), 20)) == [8, 8, 8]


def test_a_worker_with_other_code_stops_the_run(project, cluster):
    result = run_code(OTHER_CODE, "fetch", "--workers", "1", "--address", cluster.address)

    assert result.code == 1
    assert "another version of question-bank is installed there; every node needs the same" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_an_address_ray_runs_here_and_leaves_nothing_behind(project):
    with TemporaryDirectory(prefix="t") as folder:
        project.monkeypatch.setenv("TMPDIR", folder)

        result = ended(project.start("fetch", "--workers", "1"))

        assert result.code == 0, result.stderr
        assert result.stderr.count("\n") == 1
        assert list(Path(folder).iterdir()) == []
    assert sorted(path.name for path in project.folder.iterdir()) == [".store", "params.yaml"]


def test_an_address_where_nobody_listens_is_said_at_once(project):
    result = ended(project.start("fetch", "--workers", "1", "--address", "127.0.0.1:9"))

    assert result.code == 1
    assert result.stderr.startswith("Ray at 127.0.0.1:9: [Errno 111] Connection refused; ")
    assert result.stderr.count("\n") == 1


def test_without_ray_it_is_said_how_to_install_it(project):
    result = run_code(WITHOUT_RAY, "fetch", "--workers", "2")

    assert result == (1, "", "Ray is not installed: pip install 'question-bank[ray]'\n")


def test_an_address_without_workers_is_refused(project):
    result = project.invoke("fetch", "--address", "auto")

    assert result.exit_code == 2
    assert "say with --workers how many" in result.stderr
