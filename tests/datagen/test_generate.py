import asyncio
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from datagen.client import Reply
from datagen.dialogue import judge
from datagen.generate import CROWD, Progress, settle
from datagen.grid import Body, Request
from datagen.limits import Limits
from datagen.store import Store
from schemas import rows
from schemas.record import Response

CALLS = 12  # 2 difficulties × 2 types × 3 samples
CANARY = "sk-canary-0123456789abcdef"


def the_rows(project) -> list[Response]:
    return list(rows.read(project.out, Response))


def the_metrics(project) -> dict[str, int]:
    return json.loads(project.metrics.read_text())


def test_a_run_writes_every_cell_in_grid_order_and_its_figures(project):
    result = project.generate()

    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == "generate economy: 12 of 12 valid, 0 rejected, 12 asked now\n"
    found = the_rows(project)
    assert [(r.difficulty, r.type, r.sample) for r in found] == [
        (difficulty, type_, sample)
        for difficulty in ("basic", "advanced")
        for type_ in ("factual", "evaluative")
        for sample in range(3)
    ]
    assert {r.topic for r in found} == {"economy"}
    assert {r.fault for r in found} == {None}
    assert len({r.id for r in found}) == CALLS
    assert all(r.teacher.startswith("embedded @ embedded:") for r in found)
    assert all(judge(Reply(r.content, "stop", "", 0, 0)) == () for r in found)
    metrics = the_metrics(project)
    assert list(metrics) == ["requests", "valid", "mended", "reasked", "rejected", "prompt_tokens", "completion_tokens"]
    assert (metrics["requests"], metrics["valid"], metrics["reasked"]) == (CALLS, CALLS, 0)
    assert metrics["completion_tokens"] == sum(len(r.content) for r in found)


def test_a_second_run_asks_nothing_and_writes_the_same_bytes(project):
    project.generate()
    before = project.out.read_bytes(), project.metrics.read_bytes()
    project.out.unlink()

    result = project.generate()

    assert "12 of 12 valid, 0 rejected, 0 asked now" in result.stderr
    assert (project.out.read_bytes(), project.metrics.read_bytes()) == before


def test_both_kinds_of_chain_are_asked_for_and_parse(project):
    lengths = {}
    for chain in ("short", "full"):
        project.params(chain=chain)
        assert project.generate().exit_code == 0
        lengths[chain] = sum(len(r.content) for r in the_rows(project))

    assert lengths["full"] > 1.5 * lengths["short"]


def test_what_was_paid_for_is_never_paid_for_again(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()
    first = project.out.read_bytes()

    project.params(base_url=base_url, max_tokens=2047)  # other requests
    project.generate()
    assert teacher.calls.total() == 2 * CALLS

    project.params(base_url=base_url, samples=4, concurrency=1)  # the same requests, and one more a cell
    assert "16 of 16 valid, 0 rejected, 4 asked now" in project.generate().stderr
    assert teacher.calls.total() == 2 * CALLS + 4

    project.params(base_url=base_url)  # all as at first
    project.generate()
    assert teacher.calls.total() == 2 * CALLS + 4
    assert project.out.read_bytes() == first


def test_a_killed_run_goes_on_where_it_was(project, serve, until):
    teacher, base_url = serve(latency=0.05)
    project.params(base_url=base_url, samples=10, concurrency=4)
    process = project.start("generate", "economy", str(project.out), str(project.metrics))
    until(lambda: teacher.calls.total() >= 16)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not project.out.exists()
    until(lambda: teacher.serving == 0)
    with sqlite3.connect(project.store) as db:
        (stored,) = db.execute("SELECT count(*) FROM replies").fetchone()
    sent = teacher.calls.total()
    assert sent - 4 <= stored <= sent

    result = project.generate()

    assert f"40 of 40 valid, 0 rejected, {40 - stored} asked now" in result.stderr
    assert teacher.calls.total() == sent + 40 - stored


def test_a_disturbed_run_writes_the_same_bytes_as_an_undisturbed_one(project, serve, tmp_path_factory):
    teacher, base_url = serve()
    project.params(base_url=base_url, samples=6)
    project.generate()
    undisturbed = project.out.read_text().replace(base_url, "")

    # 24 calls, 38 % of them faulty; another URL, so nothing of the first run's replies can be of use
    teacher, base_url = serve(
        **{"refuse": 0.1, "error": 0.05, "truncate": 0.05, "html": 0.05, "empty": 0.05, "choiceless": 0.05},
        **{"malformed": 0.1, "hang": 0.03, "retry_after": 0.01, "seed": 3},
    )
    project.params(base_url=base_url, samples=6, timeout=1.0)
    result = project.generate()

    assert result.exit_code == 0, result.stderr
    assert {"refuse", "malformed", "ok"} < set(teacher.calls)
    assert len(teacher.calls) > 5
    assert ids_aside(project.out.read_text().replace(base_url, "")) == ids_aside(undisturbed)


def ids_aside(text: str) -> list[dict[str, object]]:
    """The rows without their ids, which hold the URL."""
    return [{k: v for k, v in json.loads(line).items() if k != "id"} for line in text.splitlines()]


def test_a_run_disturbed_in_process_and_killed_on_the_way_exports_the_same_bytes(project, serve, until):
    teacher, base_url = serve(refuse=0.2, malformed=0.2, latency=0.02, retry_after=0.01)
    project.params(base_url=base_url, samples=6)
    process = project.start("generate", "economy", str(project.out), str(project.metrics))
    until(lambda: teacher.calls.total() >= 12)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    project.generate()
    disturbed = project.out.read_bytes()

    project.store.unlink()
    teacher.faults = msgspec.structs.replace(teacher.faults, refuse=0.0, malformed=0.0)
    project.generate()

    assert project.out.read_bytes() == disturbed


def test_a_malformed_reply_is_asked_again_and_counted(project, serve):
    teacher, base_url = serve(malformed=1)
    project.params(base_url=base_url)

    result = project.generate()

    assert "12 of 12 valid, 0 rejected, 12 asked now" in result.stderr
    assert teacher.calls.total() == 2 * CALLS
    assert the_metrics(project)["reasked"] == CALLS
    assert the_metrics(project)["valid"] == CALLS


def test_a_reply_that_stays_malformed_is_kept_with_its_fault_when_enough_others_are_good(project, serve):
    _teacher, base_url = serve(malformed=0.4, stubborn=True, seed=1)
    project.params(base_url=base_url, min_yield=0.2, reasks=0)

    result = project.generate()

    assert result.exit_code == 0, result.stderr
    rejected = [r for r in the_rows(project) if r.fault]
    assert 0 < len(rejected) < CALLS
    assert the_metrics(project)["rejected"] == len(rejected)
    assert all(r.fault.startswith("wrong_shape: ") and "<answer>" in r.content for r in rejected)


def test_below_min_yield_nothing_is_written_and_all_is_kept(project, serve):
    teacher, base_url = serve(malformed=1, stubborn=True)
    project.params(base_url=base_url)

    result = project.generate()

    assert result.exit_code == 1
    assert (
        "generate economy: 0 of 12 valid, below min_yield 0.95 (wrong_shape 12); one of them, see `datagen show "
        in result.stderr
    )
    assert result.stderr.count("\n") == 1
    assert not project.out.exists()
    assert not project.metrics.exists()
    assert teacher.calls.total() == 3 * CALLS
    project.generate()
    assert teacher.calls.total() == 3 * CALLS


def test_a_reply_cut_off_at_max_tokens_says_so(project):
    project.params(max_tokens=50)

    result = project.generate()

    assert result.exit_code == 1
    assert "cut_short 12" in result.stderr


def test_a_call_without_a_reply_is_asked_for_by_the_next_run(project, serve):
    teacher, base_url = serve(error=0.3, seed=5)
    project.params(base_url=base_url, attempts=1, min_yield=0.1)
    first = project.generate()
    assert first.exit_code == 0, first.stderr
    unanswered = [r for r in the_rows(project) if r.fault]
    assert unanswered
    assert {r.fault for r in unanswered} == {"no_reply: HTTP 500: internal error, on purpose"}
    assert {r.content for r in unanswered} == {""}

    teacher.faults = msgspec.structs.replace(teacher.faults, error=0.0)
    second = project.generate()

    assert f"12 of 12 valid, 0 rejected, {len(unanswered)} asked now" in second.stderr


def settled(
    path: Path, stream: Iterator[Request], ask: Callable[..., object], concurrency: int
) -> tuple[Limits, Store]:
    """Run the loop alone, over a store that can take 300 kB."""

    async def run() -> tuple[Limits, Store]:
        limits, store = Limits(concurrency, 1, "here"), Store(path)
        store.db.execute("PRAGMA max_page_count = 75")
        await settle(stream, partial(ask, limits), store, limits, 0, Progress("test", 0))
        return limits, store

    return asyncio.run(run())


def endless() -> Iterator[Request]:
    for sample in itertools.count():
        yield Request("economy", "basic", "factual", sample, 0, "here", Body("m", (), 1.0, 9, sample))


def test_the_loop_takes_from_the_grid_what_it_can_use_and_no_more(tmp_path):
    taken, calls = itertools.count(), itertools.count()

    async def ask(limits: Limits, request: Request) -> Reply:
        if next(calls) == 100:
            limits.stop("enough")
        await asyncio.sleep(0)
        return Reply("<item>", "stop", "m", 1, 1)

    limits, _ = settled(tmp_path / "s.sqlite", (r for r in endless() if next(taken) >= 0), ask, concurrency=4)

    assert limits.reason == "enough"
    assert next(taken) <= 100 + 4 * 2 + 4 * CROWD


def test_nothing_more_is_asked_once_the_store_is_full(tmp_path):
    calls = itertools.count()

    async def ask(limits: Limits, request: Request) -> Reply:
        next(calls)
        return Reply("x" * 20_000, "stop", "m", 1, 1)

    limits, store = settled(tmp_path / "s.sqlite", endless(), ask, concurrency=4)

    assert "full" in limits.reason
    assert next(calls) <= store.counts()[0].bad + 4 * CROWD


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
    assert result.stderr.startswith("generate economy: http://127.0.0.1:9/v1: no reply in 3 tries: ")
    assert result.stderr.count("\n") == 1
    assert not project.out.exists()


def test_a_missing_key_is_one_line_that_names_the_variable(project):
    project.params(base_url="https://api.example.com/v1")
    project.monkeypatch.delenv("DATAGEN_TEST_KEY")

    result = project.generate()

    assert result.exit_code == 1
    assert result.stderr.startswith("$DATAGEN_TEST_KEY is not set: ")
    assert result.stderr.count("\n") == 1


def files(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [200, 401])
def test_the_key_gets_into_no_file_and_no_message(project, serve, status):
    async def echo(scope, receive, send):
        key = dict(scope["headers"])[b"authorization"].removeprefix(b"Bearer ")
        body = b'{"error":{"message":"wrong key: %s"},"choices":[{"message":{"content":"%s"}}]}' % (key, key)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    project.params(base_url=serve(echo)[1])

    result = project.generate()

    assert result.exit_code == 1
    assert any(b"[key]" in content for content in files(project.folder))
    assert not any(CANARY.encode() in content for content in files(project.folder))
    assert CANARY not in result.stdout + result.stderr


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
    until(lambda: teacher.calls.total() >= 4)

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


def test_two_runs_never_ask_for_one_topic_at_once(project, serve, until):
    teacher, base_url = serve(hang=1)
    project.params(base_url=base_url, timeout=60)
    first = project.start("generate", "economy", str(project.out), str(project.metrics))
    until(lambda: teacher.calls.total() >= 1)

    second = project.generate()

    first.kill()
    first.communicate()
    assert second.exit_code == 1
    assert f"economy is being asked for by process {first.pid} (__main__.py generate economy" in second.stderr


def test_a_topic_without_facts_is_a_fault_of_the_teacher_that_reaches_the_person(project):
    text = (project.folder / "params.yaml").read_text().replace("  education:", "  astrology:")
    (project.folder / "params.yaml").write_text(text)

    result = project.invoke("generate", "astrology", "out.jsonl", "metrics.json")

    assert result.exit_code == 1
    assert "no fact sheet for topic 'astrology'" in result.stderr
    assert result.stderr.count("\n") == 1
