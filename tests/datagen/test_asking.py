import asyncio
import html
import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from datagen import asking, limits
from datagen.asking import CROWD, GLANCE, Loop, Result, checked, unsettled
from datagen.client import Failure, Reply
from datagen.dialogue import Next, begin
from datagen.grid import Body, Request
from datagen.limits import Gate
from datagen.progress import Progress
from datagen.settings import Limits
from datagen.store import Attempt, Store
from datagen.teacher.faults import Faults
from datagen.teacher.replies import complete
from datagen.teacher.server import create_app
from schemas.faults import Fault


def undisturbed(project, serve) -> list[dict[str, object]]:
    """What a run writes that nothing disturbs, the URL and the ids made of it aside."""
    _, base_url = serve()
    project.params(base_url=base_url, samples=6)
    project.generate()
    return written(project, base_url)


def written(project, base_url: str) -> list[dict[str, object]]:
    lines = project.out.read_text().replace(base_url, "").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "id"} for line in lines]


def test_a_disturbed_run_writes_the_same_bytes_as_an_undisturbed_one(project, serve):
    expected = undisturbed(project, serve)
    # 24 calls, 53 % of them faulty; another URL, so nothing of the first run's replies can be of use
    shares = {"refuse": 0.1, "error": 0.05, "truncate": 0.05, "html": 0.05, "empty": 0.05, "choiceless": 0.05}
    more = {"malformed": 0.05, "length": 0.05, "cut": 0.03, "mistyped": 0.05, "hang": 0.03, "drip": 0.02}
    teacher, base_url = serve(**shares, **more, retry_after=0.01, seed=3)
    project.params(base_url=base_url, samples=6, timeout=1.0)
    project.monkeypatch.setattr(limits, "BACKOFF", lambda state: 0.01)

    result = project.generate()

    assert result.exit_code == 0, result.stderr
    assert len(teacher.calls) > 6
    assert written(project, base_url) == expected


def test_a_hung_call_is_given_up_early_and_then_more_patiently(project, serve):
    teacher = create_app()

    async def hanging(scope, receive, send):
        message = await receive()
        if b'"seed":55' in message["body"] and b"advanced" in message["body"] and b"evaluative" in message["body"]:
            await asyncio.sleep(0.6)  # every time: longer than what counts as hung at first, not the second time
        await teacher(scope, lambda: asyncio.sleep(0, message), send)

    project.params(base_url=serve(hanging)[1], samples=60, concurrency=1, timeout=10.0, hung=2.0)
    project.monkeypatch.setattr(limits, "MIN_HUNG", 0.35)
    project.monkeypatch.setattr(limits, "BACKOFF", lambda state: 0.0)
    project.monkeypatch.setattr(asking, "BEAT", 0.02)

    result = project.generate()

    assert "240 of 240 valid" in result.stderr
    early, late = project.rows(
        "SELECT verdict, error, latency FROM attempts JOIN requests USING (key) "
        "WHERE sample = 55 AND difficulty = 'advanced' AND type = 'evaluative' ORDER BY n"
    )
    assert early[:2] == ("timeout", "it hangs: no reply after 0 s")
    assert late[0] == "valid"
    assert late[2] >= 0.6


def test_runs_share_what_is_allowed_by_the_minute_from_the_first_call_on(project, serve):
    teacher = create_app()
    at = []

    async def noting(scope, receive, send):
        at.append(time.monotonic())
        await teacher(scope, receive, send)

    project.params(base_url=serve(noting)[1], samples=6, rpm=3600)
    with Store(project.store) as other:
        other.begin_run()

        project.generate()

    assert len(at) == 24
    assert at[-1] - at[0] > 23 / 30 - 0.1


# --- the loop alone --------------------------------------------------------------------------------------------------


def endless() -> Iterator[Request]:
    for sample in itertools.count():
        yield Request("economy", "basic", "factual", sample, 0, "here", Body("m", (), 1.0, 9, sample))


def settled(
    store: Store, todo: Iterator[Next | None], ask: Callable[..., object], reasks: int = 0
) -> tuple[Gate, Progress]:
    """Run the loop alone, for four calls at once; `ask` is given the gate too."""

    async def run() -> tuple[Gate, Progress]:
        gate = Gate(Limits(4, 60.0, None, 3, None, None), "here", 10.0)
        progress = Progress("test", {"economy": 0}, None)

        async def asked(request: Request, timeout: float) -> Reply | Failure:
            return await ask(gate, request)

        await Loop(asked, store, gate, progress, reasks).settle(todo)
        return gate, progress

    return asyncio.run(asyncio.wait_for(run(), 30.0))


def lacking(store: Store, stream: Iterable[Request]) -> Iterator[Next | None]:
    return unsettled(stream, 0, store, Progress("test", {"economy": 0}, None))


async def answer(gate: Gate, request: Request) -> Reply:
    return Reply("x", "stop", "m", 1, 1)


async def never(gate: Gate, request: Request) -> Reply:
    raise AssertionError("asked")


def test_the_loop_takes_from_the_grid_what_it_can_use_and_no_more(tmp_path):
    taken, calls = itertools.count(), itertools.count()

    async def ask(gate: Gate, request: Request) -> Reply:
        if next(calls) == 100:
            gate.stop("enough")
        await asyncio.sleep(0)
        return Reply("<item>", "stop", "m", 1, 1)

    store = Store(tmp_path / "s.sqlite")
    gate, _ = settled(store, lacking(store, (r for r in endless() if next(taken) >= 0)), ask)

    assert gate.reason == "enough"
    assert next(taken) <= 100 + 4 * 2 + 4 * CROWD


def test_nothing_more_is_asked_once_the_store_is_full(tmp_path):
    calls = itertools.count()
    store = Store(tmp_path / "s.sqlite")
    store.db.execute("PRAGMA max_page_count = 75")  # 300 kB

    async def ask(gate: Gate, request: Request) -> Reply:
        next(calls)
        return Reply("x" * 20_000, "stop", "m", 1, 1)

    gate, _ = settled(store, lacking(store, endless()), ask)

    assert "full" in gate.reason
    assert next(calls) <= store.db.execute("SELECT count(*) FROM replies").fetchone()[0] + 4 * CROWD


def test_a_bad_reply_is_asked_again_before_what_comes_after_it(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    asked = []

    async def ask(gate: Gate, request: Request) -> Reply:
        asked.append((request.sample, len(request.body.messages)))
        await asyncio.sleep(0.001)
        return Reply("no XML", "stop", "m", 1, 1)

    settled(store, lacking(store, itertools.islice(endless(), 40)), ask, reasks=1)

    place = {call: n for n, call in enumerate(asked)}
    assert len(place) == 80
    assert all(place[sample, 2] - place[sample, 0] <= 8 for sample in range(40))


def test_a_long_stretch_of_stored_requests_gives_calls_in_flight_their_turn(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    stream = list(itertools.islice(endless(), 5 * GLANCE))
    settled(store, lacking(store, stream[1:]), answer)

    found = list(lacking(store, stream))

    assert found[0] == begin(stream[0])
    assert found[1:] == [None] * 5


def test_calls_in_flight_land_while_a_long_stretch_is_walked(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    landed = []

    async def ask(gate: Gate, request: Request) -> Reply:
        await asyncio.sleep(0)
        landed.append(request)
        return Reply("x", "stop", "m", 1, 1)

    def walking() -> Iterator[Next | None]:
        yield begin(next(endless()))
        for _ in range(1000):
            if not landed:
                yield None
        assert landed

    settled(store, walking(), ask)


def test_a_reply_that_another_run_has_brought_meanwhile_is_taken_and_nothing_is_asked(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    stream = list(itertools.islice(endless(), 8))
    todo = list(lacking(store, stream))
    with Store(store.path) as other:
        settled(other, lacking(other, stream), answer)

    gate, progress = settled(store, iter(todo), never)

    assert gate.reason is None
    assert progress.done == 8


def test_what_another_run_has_asked_between_two_tries_is_taken_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "BACKOFF", lambda state: 0.0)
    store = Store(tmp_path / "s.sqlite")
    asked = []

    async def overtaken(gate: Gate, request: Request) -> Failure:
        asked.append(request)
        with Store(store.path) as other:
            n = other.send(request, request.key, request.key, 0, 1.0)
            done = Attempt(1.0, 1.0, 200, "bad", "not_xml: x")
            other.land(request, request.key, n, done, Reply("y", "stop", "m", 1, 1), billed=True)
        return Failure("server", 500, "HTTP 500")

    _, progress = settled(store, iter([begin(next(endless()))]), overtaken)

    assert len(asked) == 1
    assert progress.done == 1


def test_what_another_run_has_out_is_waited_for_and_asked_when_it_brings_nothing(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    first, second = itertools.islice(endless(), 2)
    other = Store(store.path)
    other.begin_run()
    numbers = {r.key: other.send(r, r.key, r.key, 0, 1.0) for r in (first, second)}
    asked = []

    async def ask(gate: Gate, request: Request) -> Reply:
        asked.append(request)
        return Reply("x", "stop", "m", 1, 1)

    def landing() -> Iterator[Next | None]:
        yield from (begin(first), begin(second), None)
        done, failed = Attempt(1.0, 1.0, 200, "bad", "not_xml: x"), Attempt(1.0, 1.0, 500, "server", "HTTP 500")
        other.land(first, first.key, numbers[first.key], done, Reply("y", "stop", "m", 1, 1), billed=True)
        other.land(second, second.key, numbers[second.key], failed, None, billed=False)

    _, progress = settled(store, landing(), ask)

    assert asked == [second]
    assert progress.done == 2


@pytest.mark.parametrize(
    ("faults", "min_yield", "said"),
    [
        ([None, None], 1.0, None),
        ([None, "not_xml: x"], 0.5, None),
        ([], 1.0, None),
        (
            ["not_xml: x", None, "wrong_shape: y", "not_xml: z"],
            0.5,
            "stage: 1 of 4 valid, below min_yield 0.5 (not_xml 2, wrong_shape 1); one of them, see `datagen show 0`, "
            "is not_xml: x; all replies stay in the store, the next run asks for those that are missing",
        ),
    ],
)
def test_too_few_valid_replies_are_a_fault_after_the_last_that_counts_them(faults, min_yield, said):
    request = next(endless())
    found = checked(
        (Result(request, str(n), "m @ here", "", fault) for n, fault in enumerate(faults)), "stage", min_yield
    )

    assert [next(found).fault for _ in faults] == faults
    with pytest.raises(Fault if said else StopIteration) as end:
        next(found)
    assert not said or end.value.message == said


# --- endpoints of no use ---------------------------------------------------------------------------------------------


def refusing(status: int) -> Callable[..., object]:
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b'{"error": {"message": "no"}}'})

    return app


@pytest.mark.parametrize("status", [401, 403, 404, 402])
def test_an_endpoint_that_will_never_answer_stops_the_run_with_one_line(project, serve, status):
    _, base_url = serve(refusing(status))
    project.params(base_url=base_url)

    result = project.generate()

    assert result.exit_code == 1
    assert result.stderr == (
        f"generate economy: {base_url}: HTTP {status}: no; 0 of 12 are in the store, 12 are left; "
        "the same command goes on from there\n"
    )
    assert not project.out.exists()


def test_an_endpoint_that_is_down_stops_the_run_with_one_line_and_nothing_takes_its_place(project):
    project.params(base_url="http://127.0.0.1:9/v1")

    result = project.generate()

    assert result.exit_code == 1
    assert re.match(r"generate economy: http://127\.0\.0\.1:9/v1: no reply in \d tries: ClientConnector", result.stderr)
    assert result.stderr.count("\n") == 1
    assert project.rows("SELECT DISTINCT verdict FROM attempts") == [("unreached",)]
    assert project.rows("SELECT prompt_tokens + completion_tokens FROM ledger") == [(0,)]
    assert not project.out.exists()


def test_an_endpoint_that_breaks_off_what_is_too_much_for_it_is_asked_on(project, serve):
    teacher = create_app(Faults(latency=0.1))

    async def crowded(scope, receive, send):
        if teacher.serving < 8:
            await teacher(scope, receive, send)
            return
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionResetError

    project.params(base_url=serve(crowded)[1], samples=10, concurrency=32)
    project.monkeypatch.setattr(limits, "BACKOFF", lambda state: 0.1 * 2**state.attempt_number)

    result = project.generate()

    assert "40 of 40 valid" in result.stderr


def test_a_missing_key_is_one_line_that_names_the_variable(project):
    project.params(base_url="https://api.example.com/v1")
    project.monkeypatch.delenv("DATAGEN_TEST_KEY")

    result = project.generate()

    assert result.exit_code == 1
    assert result.stderr.startswith("$DATAGEN_TEST_KEY is not set: ")
    assert result.stderr.count("\n") == 1


# --- the key ---------------------------------------------------------------------------------------------------------

KEY = "sk-canary/0123+4567/89ab=cdef"


class Hostile:
    """An endpoint that repeats the key wherever it can, in each of its answers in another place."""

    def __init__(self) -> None:
        self.calls = 0
        self.unwilling = False

    async def __call__(self, scope, receive, send):
        body = (await receive())["body"]
        key = dict(scope["headers"])[b"authorization"].removeprefix(b"Bearer ").decode()
        status, answer = self.answer(key, complete(body))
        headers = [(b"x-key", key.encode()), (b"retry-after", key.encode()), (b"location", key.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self.calls += 1

    def answer(self, key: str, good: bytes) -> tuple[int, bytes]:
        escaped = json.dumps(key).replace("/", "\\/").encode()
        wrong = b'{"error": {"message": "Incorrect key: %s", "code": %s}}' % (key.encode(), escaped)
        other = b'{"detail": {"key": %s, "url": "https://x/?key=%s"}}' % (escaped, quote(key, safe="").encode())
        if self.unwilling:
            return 401, wrong if self.calls % 2 else other
        answers = (
            (200, good),
            (200, self.changed(good, content=f"<item>{key}</item>")),
            (200, self.changed(good, content=f"<item key={quote(key)!r}>")),
            (200, good.replace(b'"embedded"', escaped)),
            (200, good.replace(b'"stop"', escaped)),
            (200, good[:-9] + key.encode()),
            (200, b"<p>%s</p>" % html.escape(key).encode()),
            (200, b'{"choices": %s}' % escaped),
            (200, b""),
            *((400, wrong), (422, other), (500, wrong), (503, other), (502, key.encode() * 20)),
        )
        return answers[self.calls % len(answers)]

    def changed(self, good: bytes, content: str) -> bytes:
        completion = msgspec.json.decode(good)
        completion["choices"][0]["message"]["content"] = content
        return msgspec.json.encode(completion)


def test_the_key_gets_into_no_file_and_no_message_wherever_the_endpoint_repeats_it(project, serve):
    hostile, base_url = serve(Hostile())
    project.monkeypatch.setenv("DATAGEN_TEST_KEY", KEY)
    project.params(base_url=base_url, attempts=1, reasks=1, min_yield=0.0, concurrency=2)
    said = []

    def run(*args: str) -> int:
        """In a process of its own that says all it can."""
        command = [sys.executable, "-X", "dev", "-m", "datagen", *args]
        result = subprocess.run(command, capture_output=True, text=True)
        said.append(result.stdout + result.stderr)
        return result.returncode

    def invoke(*args: str) -> int:
        result = project.invoke(*args)
        said.append(result.stdout + result.stderr)
        return result.exit_code

    hostile.unwilling = True
    assert run("plan", "--try", "2") == 1
    assert invoke("fetch") == 1
    hostile.unwilling = False
    reader = sqlite3.connect(project.store)  # so that the write-ahead log stays
    reader.execute("SELECT * FROM replies").fetchall()
    generate = ("generate", "economy", str(project.out), str(project.metrics))
    assert run(*generate) == 0
    assert invoke("plan", "--try", "3", "education") == 0
    assert invoke("fetch") == 0
    assert invoke("status", "--cells") == 0
    for line in project.out.read_text().splitlines():
        assert invoke("show", json.loads(line)["id"]) == 0
    assert run(*generate) == 0

    assert hostile.calls > 30
    files = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    assert any(path.name.endswith("-wal") for path in files)
    assert b"[key]" in project.out.read_bytes()
    assert any("[key]" in text for text in said)
    assert not [path for path, content in files.items() if b"canary" in content]
    assert not [text for text in said if "canary" in text]
    reader.close()


STAGE = """\
stages:
  generate:
    cmd: python -m datagen.generate economy economy.jsonl economy.json
    params: [topics, generate, teachers]
    outs: [economy.jsonl]
    metrics: [economy.json]
"""


def test_the_key_gets_into_nothing_that_dvc_or_git_keeps(project, serve):
    _, base_url = serve(Hostile())
    project.monkeypatch.setenv("DATAGEN_TEST_KEY", KEY)
    project.monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    project.monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    project.params(base_url=base_url, attempts=1, reasks=1, min_yield=0.0, concurrency=2)
    (project.folder / "dvc.yaml").write_text(STAGE)
    run = partial(subprocess.run, check=True, capture_output=True)

    run(["git", "init", "--quiet"])
    run([sys.executable, "-m", "dvc", "init", "--quiet"])
    said = run([sys.executable, "-m", "dvc", "repro", "--verbose"])
    run(["git", "add", "--all", "--force"])
    run(["git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--message", "all"])

    kept = [path.read_bytes() for path in project.folder.rglob("*") if path.is_file()]
    objects = run(["git", "cat-file", "--batch", "--batch-all-objects"]).stdout
    cached = [path.read_bytes() for path in (project.folder / ".dvc" / "cache").rglob("*") if path.is_file()]
    assert any(b"[key]" in content for content in cached)
    assert b"[key]" in objects
    assert not any(b"canary" in content for content in (*kept, objects, said.stdout, said.stderr))


# --- interrupted, killed, left alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_what_is_in_flight_and_says_what_is_left(project, serve, until, number):
    teacher, base_url = serve(latency=0.2)
    project.params(base_url=base_url, samples=20, concurrency=4)
    process = project.start("generate", "economy", str(project.out), str(project.metrics))
    until(lambda: teacher.calls.total() >= 4)

    process.send_signal(number)
    _, err = process.communicate(timeout=30)

    sent = teacher.calls.total()
    assert process.returncode == 130
    assert (
        f"interrupted; {sent} of 80 are in the store, {80 - sent} are left; the same command goes on from there" in err
    )
    assert not project.out.exists()
    teacher.faults = msgspec.structs.replace(teacher.faults, latency=0.0)
    project.generate()
    assert teacher.calls.total() == 80


def test_a_second_ctrl_c_leaves_at_once(project, serve, until):
    teacher, base_url = serve(hang=1)
    project.params(base_url=base_url, timeout=60)
    process = project.start("generate", "economy", str(project.out), str(project.metrics))
    until(lambda: teacher.serving >= 4)

    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again leaves at once" in process.stderr.readline()
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=5) == -signal.SIGINT


@pytest.mark.parametrize("shell", [(), ("/bin/sh", "-c", '"$@"; exit $?', "sh")])
def test_under_dvc_the_run_ends_with_the_process_that_started_it_or_its_shell(project, serve, until, shell):
    teacher, base_url = serve(latency=0.2)
    project.params(base_url=base_url, samples=500, concurrency=2)
    project.monkeypatch.setenv("DVC_STAGE", "generate@economy")
    run = [*shell, sys.executable, "-m", "datagen", "generate", "economy", str(project.out), str(project.metrics)]
    code = f"import subprocess; run = subprocess.Popen({run!r}); print(run.pid, flush=True); run.wait()"
    command = [sys.executable, "-c", code]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    until(lambda: teacher.calls.total() >= 2)

    parent.kill()
    parent.wait()

    until(lambda: not alive(child))
    assert teacher.calls.total() < 100


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may be there to collect the orphan: a zombie is dead too.
    return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
