import asyncio
import itertools
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from datagen import batch
from datagen.batch import described, judged, line
from datagen.batch_api import Line, Problem
from datagen.client import Reply
from datagen.grid import Body, Request
from datagen.store import Batch, Out, Store
from datagen.teacher import batches
from datagen.teacher.faults import Faults
from datagen.teacher.server import Teacher, create_app
from schemas import rows
from schemas.record import Message, Response

CALLS = 24  # two topics, 2 × 2 cells, 3 samples
CANARY = "sk-canary-0123456789abcdef"
QUICK = ("batch", "--poll", "0.02")
CONTENT = r"GET /v1/files/.*/content"

Answer = tuple[int, bytes]
Rule = Callable[[Callable[[], Awaitable[Answer]], Callable[..., Awaitable[None]]], Awaitable[Answer | None]]


class Door:
    """The embedded teacher behind a door: what is asked on a route can be answered otherwise, so many times."""

    def __init__(self, **faults: Any) -> None:
        self.now = 1000.0
        self.teacher: Teacher = create_app(Faults(**faults), now=lambda: self.now)
        self.rules: list[tuple[str, Rule, Any]] = []

    def at(self, route: str, rule: Rule, times: int = 1) -> None:
        self.rules.append((route, rule, iter(range(times))))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def inner() -> Answer:
            sent: list[Any] = []

            async def keep(message: Any) -> None:
                sent.append(message)

            await self.teacher(scope, receive, keep)
            return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)

        route = f"{scope['method']} {scope['path']}"
        for pattern, rule, times in self.rules:
            if re.fullmatch(pattern, route) and next(times, None) is not None:
                if answer := await rule(inner, send):
                    await begin(send, answer[0])
                    await send({"type": "http.response.body", "body": answer[1]})
                return
        await self.teacher(scope, receive, send)


async def begin(send: Callable[..., Awaitable[None]], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})


def answers(status: int, body: bytes = b"", *, done: bool = False) -> Rule:
    """Answer so, having done what was asked or not."""

    async def rule(inner, send) -> Answer:
        if done:
            await inner()
        return status, body

    return rule


def made(teacher: Teacher) -> list[int]:
    """The rows of each batch that was created, in the order of their creation."""
    store = teacher.batches.store
    names = [name for name in store if name.startswith("batch_") and name.endswith(".json")]
    found = [msgspec.json.decode(store[name], type=batches.Batch) for name in names]
    return [one.checked.total for one in sorted(found, key=lambda one: one.number)]


def verdicts(project) -> Counter[str]:
    return Counter(verdict for (verdict,) in project.rows("SELECT verdict FROM attempts"))


def the_rows(project) -> list[Response]:
    return list(rows.read(project.out, Response))


def a_row(**changed: Any) -> Out:
    body = Body("m", (Message(role="user", content="问"),), 1.0, 9, 0)
    return Out("k" * 64, 1, 10.0, Request("economy", "basic", "factual", 0, 0, "https://x/v1", body, **changed))


def test_what_an_endpoint_takes_beside_is_in_the_line_of_each_request():
    request = a_row().request
    more = replace(request, body=replace(request.body, extra={"top_k": 20}))

    bare, whole = (msgspec.json.decode(line("k", one))["body"] for one in (request, more))

    assert whole == bare | {"top_k": 20}


# --- what it does ------------------------------------------------------------------------------------------------


def test_a_batch_fills_the_store_and_generate_asks_nothing_more(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)

    result = project.invoke(*QUICK)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    *_, ended, said = result.stderr.splitlines()
    assert re.fullmatch(r"batch: number 1 \(batch_\w+\): completed: 24 valid", ended)
    assert said == "batch: 24 of 24 valid, 0 rejected, 0 without a reply, 24 asked now, cost 0.02"
    assert made(teacher) == [CALLS]
    assert "12 of 12 valid, 0 rejected, 0 asked now" in project.generate().stderr
    assert teacher.calls.total() == 0


def test_a_batch_and_a_fetch_export_the_same_bytes(project, serve, monkeypatch):
    _, base_url = serve()
    project.params(base_url=base_url)
    exported = []
    for way in (QUICK, ("fetch",)):
        monkeypatch.setenv("DATAGEN_STORE", str(project.folder / f"{way[0]}.sqlite"))
        assert project.invoke(*way).exit_code == 0
        project.generate()
        exported.append((project.out.read_bytes(), project.metrics.read_bytes()))

    assert exported[0] == exported[1]
    assert len(the_rows(project)) == CALLS / 2


def test_a_second_run_submits_nothing_and_needs_no_key(project, serve, monkeypatch):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.invoke(*QUICK)
    monkeypatch.delenv("DATAGEN_TEST_KEY")

    result = project.invoke(*QUICK)

    assert result.stderr == "batch: 24 of 24 valid, 0 rejected, 0 without a reply, 0 asked now, cost 0.00\n"
    assert made(teacher) == [CALLS]


def test_the_named_topics_alone_are_asked_for(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)

    result = project.invoke(*QUICK, "economy")

    assert "batch: 12 of 12 valid" in result.stderr
    assert made(teacher) == [12]
    assert project.invoke("batch", "econmy").stderr.endswith("did you mean economy?\n")


def test_a_line_is_printed_when_the_status_or_the_counts_change(project, serve):
    door = Door(batch_seconds=10.0)
    _, base_url = serve(door)
    project.params(base_url=base_url)

    async def later(inner, send) -> Answer:
        door.now += 0.5
        return await inner()

    door.at(r"GET /v1/batches/.+", later, 100)
    result = project.invoke(*QUICK)

    said = re.findall(r"batch: number 1 \(batch_\w+\): (.*)", result.stderr)
    assert said[:4] == [
        "24 rows are out",
        "validating, 0 of 0 done, 0 failed",
        "in_progress, 0 of 24 done, 0 failed",
        "in_progress, 1 of 24 done, 0 failed",
    ]
    assert said[-2:] == ["finalizing, 24 of 24 done, 0 failed", "completed: 24 valid"]
    assert all(one != other for one, other in itertools.pairwise(said))


def test_a_bad_reply_is_asked_again_in_the_next_batch(project, serve):
    teacher, base_url = serve(malformed=0.4, length=0.1, seed=2)
    project.params(base_url=base_url)

    result = project.invoke(*QUICK)

    assert "24 of 24 valid, 0 rejected" in result.stderr
    bad = teacher.batches.rows["malformed"] + teacher.batches.rows["length"]
    assert made(teacher) == [CALLS, bad]
    assert bad > 5
    assert verdicts(project) == {"valid": CALLS, "bad": bad}
    assert dict(project.rows("SELECT turn, count(*) FROM requests GROUP BY turn")) == {0: CALLS, 1: bad}


def test_a_reply_that_stays_bad_is_asked_again_as_often_as_reasks_says_and_then_kept_as_rejected(project, serve):
    teacher, base_url = serve(malformed=1.0, stubborn=True)
    project.params(base_url=base_url, reasks=1)

    result = project.invoke(*QUICK)

    assert "batch: 0 of 24 valid, 24 rejected, 0 without a reply, 24 asked now" in result.stderr
    assert made(teacher) == [CALLS, CALLS]


def test_what_expires_goes_into_the_next_batch_and_is_not_counted_as_paid(project, serve):
    teacher, base_url = serve(batch_expire=0.5)
    project.params(base_url=base_url)

    result = project.invoke(*QUICK)

    assert "24 of 24 valid" in result.stderr
    assert made(teacher) == [24, 12, 6, 3, 2, 1]
    assert verdicts(project) == {"valid": 24, "expired": 24}
    assert project.rows("SELECT DISTINCT status, error FROM attempts WHERE verdict = 'expired'") == [
        (None, "batch_expired: This request could not be executed before the completion window expired.")
    ]
    assert project.rows("SELECT way, calls, prompt_tokens, completion_tokens FROM ledger") == [
        ("batch", 48, *project.rows("SELECT sum(prompt_tokens), sum(completion_tokens) FROM replies")[0])
    ]


def test_rows_in_error_are_tried_as_often_as_the_limits_say_and_anew_by_the_next_run(project, serve):
    teacher, base_url = serve(batch_error=1.0)
    project.params(base_url=base_url, attempts=2)

    result = project.invoke(*QUICK)

    assert result.exit_code == 0
    assert "completed: 24 server (HTTP 500: internal error, on purpose)" in result.stderr
    assert "0 of 24 valid, 0 rejected, 24 without a reply" in result.stderr
    assert made(teacher) == [CALLS, CALLS]
    assert project.rows("SELECT prompt_tokens + completion_tokens FROM ledger") == [(0,)]

    project.invoke(*QUICK)
    assert made(teacher) == [CALLS] * 4


def test_a_line_that_cannot_be_read_is_a_try_that_may_have_been_billed(project, serve):
    teacher, base_url = serve(truncate=0.5)
    project.params(base_url=base_url)

    result = project.invoke(*QUICK)

    assert "24 of 24 valid" in result.stderr
    assert verdicts(project) == {"valid": CALLS, "garbled": teacher.batches.rows["truncate"]}
    (billed,) = project.rows("SELECT prompt_tokens FROM ledger")[0]
    assert billed > project.rows("SELECT sum(prompt_tokens) FROM replies")[0][0]


@pytest.mark.parametrize("most", ["rows", "bytes"])
def test_a_batch_holds_no_more_than_is_allowed(project, serve, monkeypatch, most):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    if most == "bytes":
        monkeypatch.setattr(batch, "MOST_BYTES", 10_000)

    result = project.invoke(*QUICK, *(["--rows", "10"] if most == "rows" else []))

    assert "24 of 24 valid" in result.stderr
    assert sum(made(teacher)) == CALLS
    assert made(teacher) == [10, 10, 4] if most == "rows" else len(made(teacher)) > 2


def test_no_wait_submits_or_collects_what_is_ready_and_leaves(project, serve):
    door = Door(batch_seconds=100.0, malformed=0.4, seed=2)
    _, base_url = serve(door)
    project.params(base_url=base_url)

    first = project.invoke("batch", "--no-wait")
    door.now += 50
    second = project.invoke("batch", "--no-wait")
    door.now += 50
    third = project.invoke("batch", "--no-wait")
    door.now += 100
    last = project.invoke("batch", "--no-wait")

    assert [result.exit_code for result in (first, second, third, last)] == [0, 0, 0, 0]
    for result in (first, second):
        said = result.stderr.splitlines()[-1]
        assert re.fullmatch(r"batch: 24 rows in number 1 \(batch_\w+\); the same command collects them", said)
    again = made(door.teacher)[1]
    assert f"{again} rows in number 2" in third.stderr
    assert last.stderr.endswith(f"24 of 24 valid, 0 rejected, 0 without a reply, {again} asked now, cost 0.01\n")
    assert made(door.teacher) == [CALLS, again]


def test_tries_are_counted_over_the_runs_of_one_asking(project, serve):
    teacher, base_url = serve(batch_error=1.0)
    project.params(base_url=base_url, attempts=2)

    results = [project.invoke("batch", "--no-wait") for _ in range(3)]

    assert made(teacher) == [CALLS, CALLS]
    assert results[-1].stderr.endswith("24 without a reply, 0 asked now, cost 0.00\n")


# --- what it may cost --------------------------------------------------------------------------------------------


def test_batches_are_charged_at_their_share_of_the_price(project, serve):
    _, base_url = serve()
    project.params(base_url=base_url, prices="{embedded: {input: 1000, output: 2000, batch: 0.25}}")

    result = project.invoke(*QUICK)

    ((way, prompt, completion),) = project.rows("SELECT way, prompt_tokens, completion_tokens FROM ledger")
    cost = f"cost {0.25 * (prompt * 1000 + completion * 2000) / 1e6:.2f}"
    assert way == "batch"
    assert result.stderr.endswith(f"{cost}\n")
    assert cost in project.invoke("plan").stdout


def test_rows_that_the_budget_has_no_room_for_stay_out(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url, calls=10)

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert made(teacher) == [10]
    assert result.stderr.endswith(
        "budget.calls of 10 is used up; raise it in params.yaml to go on; 14 of 24 are left\n"
    )

    project.params(base_url=base_url, calls=24)
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert made(teacher) == [10, 14]


@pytest.mark.parametrize("bound", ["tokens", "money"])
def test_what_is_out_counts_at_the_most_it_can_come_to_and_what_it_came_to_makes_room(project, serve, bound):
    teacher, base_url = serve()
    budget = {"tokens": 80_000, "money": 0.035}[bound]
    project.params(base_url=base_url, **{bound: budget}, prices="{embedded: {input: 0.5, output: 0.5, batch: 1.0}}")

    result = project.invoke(*QUICK)

    assert "24 of 24 valid" in result.stderr
    assert sum(made(teacher)) == CALLS
    assert len(made(teacher)) > 1


def test_no_wait_says_that_the_budget_keeps_rows_out(project, serve):
    _, base_url = serve(batch_seconds=100)
    project.params(base_url=base_url, calls=10)

    result = project.invoke("batch", "--no-wait")

    assert result.exit_code == 0
    assert "10 rows in number 1" in result.stderr
    assert "; budget.calls of 10 is used up, so that others stay out; the same command collects" in result.stderr


def test_money_cannot_be_bounded_without_a_price(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url, money=1, prices="{}")

    assert "prices.embedded: missing" in project.invoke(*QUICK).stderr
    assert made(teacher) == []


# --- beside other runs -------------------------------------------------------------------------------------------


def test_a_fetch_leaves_alone_what_a_batch_has_out_and_says_so(project, serve):
    door = Door(batch_seconds=100)
    _, base_url = serve(door)
    project.params(base_url=base_url)
    project.invoke("batch", "economy", "--no-wait")

    result = project.invoke("fetch")

    assert result.exit_code == 1
    assert result.stderr.endswith(
        "fetch: 12 of 24 are out in a batch; `datagen batch` collects them, then the same command goes on\n"
    )
    assert door.teacher.calls == {"ok": 12}
    assert "12 of 12 are out in a batch" in project.generate().stderr
    assert not project.out.exists()

    door.now += 100
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert "24 of 24 valid, 0 rejected, 0 without a reply, 0 asked now" in project.invoke("fetch").stderr
    assert made(door.teacher) == [12]


def test_a_batch_leaves_alone_what_a_fetch_has_out(project, serve, until):
    door = Door()
    teacher, base_url = door.teacher, serve(door)[1]
    project.params(base_url=base_url)
    held: list[str] = []
    done: list[str] = []

    async def hold(inner, send) -> Answer:
        held.append("call")
        while not done:
            await asyncio.sleep(0.01)
        return await inner()

    door.at("POST /v1/chat/completions", hold, 4)
    process = project.start("fetch")
    until(lambda: len(held) == 4)

    result = project.invoke("batch", "--no-wait")
    done.append("batch")

    assert result.exit_code == 0
    assert made(teacher) == [CALLS - 4]
    assert "fetch: 20 of 24 are out in a batch" in process.communicate()[1]
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert (made(teacher), teacher.calls) == ([CALLS - 4], {"ok": 4})


def test_calls_that_a_killed_run_had_out_go_into_the_batch(project, serve, until):
    teacher, base_url = serve(latency=5.0)
    project.params(base_url=base_url)
    process = project.start("fetch")
    until(lambda: teacher.serving == 4)
    process.kill()
    process.communicate()

    result = project.invoke(*QUICK)

    assert "batch: 4 calls were out when a run was killed; they may have been billed" in result.stderr
    assert made(teacher) == [CALLS]


def test_a_second_command_at_work_on_the_store_is_turned_away(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    with Store(project.store) as store, store.batching():
        result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert "another `datagen batch` is at work on this store" in result.stderr
    assert made(teacher) == []


def test_a_batch_at_another_endpoint_is_mentioned_and_left_alone(project, serve):
    _, first = serve(batch_seconds=100)
    _, second = serve()
    project.params(base_url=first)
    project.invoke("batch", "--no-wait")
    project.params(base_url=second)

    result = project.invoke(*QUICK)

    assert f"batch: number 1 is out at {first}; with that base_url this collects it" in result.stderr
    assert "24 of 24 valid" in result.stderr


# --- killed ------------------------------------------------------------------------------------------------------


def dies(victim: list["subprocess.Popen[str]"], *, done: bool) -> Rule:
    """Kill the client that asks, what it asked for done or not."""

    async def rule(inner, send) -> None:
        if done:
            await inner()
        victim[0].kill()
        victim[0].wait()

    return rule


def dies_half_way(victim: list["subprocess.Popen[str]"], project) -> Rule:
    """Kill the client when it has stored some of the half of an answer that it gets."""

    async def rule(inner, send) -> None:
        _, body = await inner()
        await begin(send)
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        while not project.rows("SELECT 1 FROM replies"):
            await asyncio.sleep(0.01)
        victim[0].kill()
        victim[0].wait()

    return rule


KILLED = {
    "before the upload": ("POST /v1/files", False),
    "after the upload": ("POST /v1/files", True),
    "before the creation": ("POST /v1/batches", False),
    "after the creation": ("POST /v1/batches", True),
    "while it is out": (r"GET /v1/batches/.+", True),
    "before the collection": (CONTENT, False),
    "half way through the collection": (CONTENT, None),
}


@pytest.mark.parametrize("when", KILLED)
def test_a_run_killed_anywhere_submits_no_row_twice(project, serve, monkeypatch, when):
    route, done = KILLED[when]
    door = Door(malformed=0.3, seed=1)
    teacher, base_url = door.teacher, serve(door)[1]
    project.params(base_url=base_url)
    victim: list[subprocess.Popen[str]] = []
    door.at(route, dies_half_way(victim, project) if done is None else dies(victim, done=done))
    victim.append(project.start(*QUICK))
    assert victim[0].communicate() is not None
    assert victim[0].returncode == -signal.SIGKILL
    assert project.rows("SELECT count(*), run FROM attempts GROUP BY run") == [(CALLS, -1)]
    landed = project.rows("SELECT count(*) FROM replies")[0][0]
    assert (0 < landed < CALLS) if done is None else landed == 0
    monkeypatch.setattr(batch, "SETTLE", 0.0)

    result = project.invoke(*QUICK)

    assert result.exit_code == 0, result.stderr
    assert "batch: 24 of 24 valid, 0 rejected, 0 without a reply" in result.stderr
    bad = teacher.batches.rows["malformed"]
    assert made(teacher) == [CALLS, bad]
    assert teacher.batches.rows.total() == CALLS + bad
    assert verdicts(project) == {"valid": CALLS, "bad": bad}
    assert project.rows("SELECT calls, prompt_tokens FROM ledger") == [
        (CALLS + bad, project.rows("SELECT sum(prompt_tokens) FROM replies")[0][0])
    ]


def test_a_run_killed_before_the_batch_was_full_submits_what_was_written_down_then_the_rest(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    requests = batch.read().requests()
    with Store(project.store) as store:
        begun = store.begin_batch(base_url, "embedded", 1)
        store.begin_batch(base_url, "embedded", 1)  # and one with no row yet
        for request in itertools.islice(requests, 5):
            store.send(request, request.key, request.key, 0, 1.0, None, begun)

    result = project.invoke(*QUICK)

    assert "24 of 24 valid" in result.stderr
    assert made(teacher) == [5, 19]


def test_a_creation_that_was_not_heard_of_is_waited_for(project, serve, monkeypatch):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    monkeypatch.setattr(batch, "LOOK", 0.01)
    unlisted = msgspec.json.encode({"object": "list", "data": [], "has_more": False})
    door.at("GET /v1/batches", answers(200, unlisted), 4)  # the first look is whether there is such an API
    door.at("POST /v1/batches", answers(500, done=True))

    result = project.invoke(*QUICK)

    assert "24 of 24 valid" in result.stderr
    assert "whether it was created is not known; looking for it, 60 s at most" in result.stderr
    assert made(door.teacher) == [CALLS]


@pytest.mark.parametrize("answer", [(500, b""), (200, b"<html>"), (429, b""), (400, b'{"error": {"message": "no"}}')])
def test_a_batch_that_was_not_created_gives_its_rows_back(project, serve, monkeypatch, answer):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    monkeypatch.setattr(batch, "SETTLE", 0.0)
    door.at("POST /v1/batches", answers(*answer))

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert f"batch: {base_url} did not take number 1: " in result.stderr
    assert verdicts(project) == {"refused": CALLS}
    assert project.rows("SELECT prompt_tokens + completion_tokens FROM ledger") == [(0,)]
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert made(door.teacher) == [CALLS]


def test_a_late_creation_comes_to_nothing(project, serve, monkeypatch):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    monkeypatch.setattr(batch, "SETTLE", 0.0)
    asked: list[bytes] = []

    async def drop(inner, send) -> Answer:
        asked.extend(project.rows("SELECT file FROM batches"))
        return 500, b""

    door.at("POST /v1/batches", drop)
    project.invoke(*QUICK)
    ((file,),) = asked

    late = httpx.post(
        f"{base_url}/batches",
        json={"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    )

    assert late.status_code == 400
    assert "No such File" in late.text


def test_nothing_is_submitted_while_it_cannot_be_told_whether_a_batch_exists(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    door.at("GET /v1/batches", answers(200, b'{"data": []}'))  # the first look is whether there is such an API
    door.at("GET /v1/batches", answers(403), 1)
    door.at("POST /v1/batches", answers(500, done=True))

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert f"batch: whether number 1 was created at {base_url} cannot be told: HTTP 403" in result.stderr
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert made(door.teacher) == [CALLS]


def test_ctrl_c_while_a_batch_is_out_says_which_and_the_same_command_collects_it(project, serve, until):
    door = Door(batch_seconds=100)
    _, base_url = serve(door)
    project.params(base_url=base_url)
    process = project.start("batch", "--poll", "600")
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)

    _, said = process.communicate()

    (name,) = re.findall(r"batch: number 1 \((batch_\w+)\): 24 rows are out", first)
    assert process.returncode == 130
    assert said == f"batch: interrupted; 24 rows in number 1 ({name}); the same command collects them\n"
    door.now += 100
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert made(door.teacher) == [CALLS]


# --- what endpoints do -------------------------------------------------------------------------------------------


def test_an_endpoint_without_batches_is_named_and_nothing_is_written_down(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    door.at(r".* /v1/batches.*", answers(404))

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert result.stderr == f"batch: {base_url} has no Batch API; use `datagen fetch`\n"
    assert verdicts(project) == {}


def test_the_embedded_teacher_in_process_needs_no_batches(project):
    result = project.invoke("batch")

    assert result.exit_code == 1
    assert result.stderr == "batch: the embedded teacher costs nothing and answers at once; use `datagen fetch`\n"


def test_an_input_file_that_is_not_valid_is_told_in_the_endpoints_words(project, serve, monkeypatch):
    _, base_url = serve()
    project.params(base_url=base_url)
    with monkeypatch.context() as patch:
        patch.setattr(batch, "line", lambda key, request: line(key, request).replace(b'"POST"', b'"GET"'))
        result = project.invoke(*QUICK)

    assert result.exit_code == 1
    error = "The method 'GET' is not supported; it must be 'POST'."
    assert result.stderr.endswith(
        f"batch: {base_url} did not take number 1: line 1: {error}; line 2: {error}; line 3: {error}; and 21 more; "
        "its rows are not out any more\n"
    )
    assert verdicts(project) == {"refused": CALLS}
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr


def test_a_batch_too_many_waits_until_another_has_ended(project, serve):
    door = Door(batch_seconds=100)
    _, base_url = serve(door)
    project.params(base_url=base_url)
    project.invoke("batch", "--rows", "12", "--no-wait")
    names = [name for (name,) in project.rows("SELECT name FROM batches ORDER BY id")]
    full = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
    failed = {"id": names[1], "status": "failed", "errors": {"data": [full]}}
    door.at(f"GET /v1/batches/{names[1]}", answers(200, msgspec.json.encode(failed)))

    first = project.invoke("batch", "--no-wait")
    second = project.invoke("batch", "--no-wait")
    door.now += 100
    third = project.invoke("batch", "--no-wait")

    assert "not taken, waits for others to end: Enqueued token limit reached." in first.stderr
    assert "12 rows in number 1" in first.stderr
    assert [result.exit_code for result in (first, second, third)] == [0, 0, 0]
    assert made(door.teacher) == [12, 12, 12]
    door.now += 100
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr


def test_a_batch_too_many_with_no_other_out_stops_the_run(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    full = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
    failed = {"id": "batch_1", "status": "FAILED", "errors": {"data": [full]}}  # some write it in capitals
    door.at(r"GET /v1/batches/.+", answers(200, msgspec.json.encode(failed)), 9)

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert "did not take number 1: Enqueued token limit reached." in result.stderr
    assert made(door.teacher) == [CALLS]


def test_a_cancelled_batch_is_collected_and_stops_the_run(project, serve):
    door = Door(batch_seconds=100)
    _, base_url = serve(door)
    project.params(base_url=base_url)
    project.invoke("batch", "--no-wait")
    door.now += 50
    ((name,),) = project.rows("SELECT name FROM batches")
    httpx.post(f"{base_url}/batches/{name}/cancel")
    door.now += 10

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert f"({name}) was cancelled at {base_url}; the same command asks for what it left undone" in result.stderr
    assert verdicts(project) == {"valid": 12, "cancelled": 12}
    assert made(door.teacher) == [CALLS]
    project.invoke("batch", "--no-wait")
    assert made(door.teacher) == [CALLS, 12]


def test_an_error_page_in_place_of_the_results_is_no_result(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    door.at(CONTENT, answers(200, b"<html>\n" * 30))

    result = project.invoke(*QUICK)

    assert "looking again" in result.stderr
    assert "24 of 24 valid" in result.stderr
    assert made(door.teacher) == [CALLS]


def test_results_that_are_not_whole_are_not_paid_for_again(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)

    async def short(inner, send) -> Answer:
        status, body = await inner()
        return status, b"".join(body.splitlines(keepends=True)[:10])

    door.at(CONTENT, short)

    result = project.invoke(*QUICK)

    assert "24 rows are completed, its files hold 10; looking again" in result.stderr
    assert "24 of 24 valid" in result.stderr
    assert made(door.teacher) == [CALLS]


def test_an_endpoint_that_fails_for_a_while_is_looked_at_again(project, serve, monkeypatch):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.0)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.0)
    door.at("POST /v1/files", answers(503))
    door.at(r"GET /v1/batches/.+", answers(503), 7)

    result = project.invoke(*QUICK)

    assert result.stderr.count("HTTP 503: no message; looking again") == 1
    assert "24 of 24 valid" in result.stderr
    assert made(door.teacher) == [CALLS]


def test_an_endpoint_that_fails_for_long_stops_the_run_and_nothing_is_lost(project, serve, monkeypatch):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    monkeypatch.setattr(batch, "PATIENCE", 0.05)
    door.at(CONTENT, answers(200, b"{}"), 100)

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert "not what the API answers: Object missing required field `custom_id`; the same command" in result.stderr
    door.rules.clear()
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert made(door.teacher) == [CALLS]


def test_a_batch_that_the_endpoint_does_not_know_is_paid_for_again_only_if_told_so(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    door.at(r"GET /v1/batches/.+", answers(404), 2)

    results = [project.invoke(*QUICK) for _ in range(2)]

    assert [result.exit_code for result in results] == [1, 1]
    assert "if it is gone for good, `datagen batch --forget 1` has its rows paid for again" in results[1].stderr
    assert made(door.teacher) == [CALLS]

    forgotten = project.invoke("batch", "--forget", "1")
    assert "number 1 is forgotten; its 24 rows count as paid for" in forgotten.stderr
    assert project.rows("SELECT prompt_tokens > 0 FROM ledger") == [(1,)]
    assert "24 of 24 valid" in project.invoke(*QUICK).stderr
    assert made(door.teacher) == [CALLS, CALLS]
    assert "number 1 is not out" in project.invoke("batch", "--forget", "1").stderr


def test_a_reply_with_a_line_separator_in_it_is_one_line(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)

    async def separated(inner, send) -> Answer:
        status, body = await inner()
        return status, body.replace("。".encode(), "\u2028".encode())

    door.at(CONTENT, separated)

    result = project.invoke(*QUICK)

    assert verdicts(project)["valid"] == CALLS, result.stderr
    assert any("\u2028" in content for (content,) in project.rows("SELECT content FROM replies"))


@pytest.mark.parametrize(
    "route", ["GET /v1/batches", "POST /v1/files", "POST /v1/batches", r"GET /v1/batches/.+", CONTENT]
)
def test_the_key_reaches_neither_a_file_nor_the_terminal(project, serve, route):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)
    echo = msgspec.json.encode({"error": {"message": f"Incorrect API key provided: {CANARY}."}})
    door.at(route, answers(401, echo))

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert "HTTP 401: Incorrect API key provided: [key]." in result.stderr
    assert CANARY not in result.stderr
    assert not any(CANARY.encode() in path.read_bytes() for path in project.folder.rglob("*") if path.is_file())


def test_an_answer_that_no_other_row_would_better_stops_the_run(project, serve):
    door = Door()
    _, base_url = serve(door)
    project.params(base_url=base_url)

    async def broke(inner, send) -> Answer:
        status, body = await inner()
        return status, body.replace(b'"status_code":200', b'"status_code":401')

    door.at(CONTENT, broke, 9)

    result = project.invoke(*QUICK)

    assert result.exit_code == 1
    assert "completed: 24 fatal (HTTP 401: " in result.stderr
    assert made(door.teacher) == [CALLS]


# --- values ------------------------------------------------------------------------------------------------------


def a_line(status: int | None = None, body: str = "null", error: dict[str, str] | None = None) -> Line:
    response = f'{{"status_code": {status}, "body": {body}}}' if status else "null"
    text = f'{{"custom_id": "k", "response": {response}, "error": {msgspec.json.encode(error).decode()}}}'
    return msgspec.json.decode(text, type=Line)


@pytest.mark.parametrize(
    ("found", "verdict", "status", "error"),
    [
        (a_line(200, '{"choices": [{"message": {"content": "x"}}]}'), "bad", 200, "not_xml: "),
        (a_line(200, '{"choices": []}'), "garbled", 200, "the reply has no choices"),
        (a_line(200, '"<html>"'), "garbled", 200, "no completion in the reply"),
        (a_line(500, '{"error": {"message": "oops"}}'), "server", 500, "HTTP 500: oops"),
        (a_line(400, '{"error": {"message": "no such model"}}'), "rejected", 400, "HTTP 400: no such model"),
        (a_line(429, "{}"), "refused", 429, "HTTP 429"),
        (a_line(401, f'{{"error": {{"message": "{CANARY}"}}}}'), "fatal", 401, "HTTP 401: [key]"),
        (a_line(error={"code": "batch_expired", "message": "late"}), "expired", None, "batch_expired: late"),
        (a_line(error={"code": "batch_cancelled", "message": "m"}), "cancelled", None, "batch_cancelled: m"),
        (a_line(error={"code": "request_timeout", "message": "m"}), "timeout", None, "request_timeout: m"),
        (a_line(error={"code": "odd", "message": CANARY}), "server", None, "odd: [key]"),
        (a_line(), "server", None, "None: no message"),
    ],
)
def test_each_line_of_a_result_is_judged_as_a_call_would_be(found, verdict, status, error):
    attempt, reply = judged(a_row(), found, 15.0, CANARY)

    assert (attempt.at, attempt.latency, attempt.verdict, attempt.status) == (10.0, 5.0, verdict, status)
    assert attempt.error is not None
    assert attempt.error.startswith(error)
    assert (reply == Reply("x", "stop", "", 0, 0)) is (verdict == "bad")


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ([], "the endpoint does not say why"),
        ([Problem("empty_file", "It is empty.")], "It is empty."),
        ([Problem("c", None, 7)], "line 7: c"),
        ([Problem(None, str(n), n) for n in range(1, 6)], "line 1: 1; line 2: 2; line 3: 3; and 2 more"),
    ],
)
def test_what_is_wrong_with_an_input_file_is_told_briefly(problems, said):
    assert described(problems) == said


def test_a_line_of_an_input_file_is_what_a_call_would_send():
    row = a_row()

    found = msgspec.json.decode(line(row.key, row.request))

    assert found == {
        "custom_id": row.key,
        "body": msgspec.json.decode(msgspec.json.encode(row.request.body)),
        "method": "POST",
        "url": "/v1/chat/completions",
    }


def test_a_row_is_read_back_from_the_store_as_it_was_sent(project):
    request = a_row(kind="verify", subject="s").request
    with Store(project.store) as store:
        begun = store.begin_batch("https://x/v1", "m", 1)
        store.send(request, request.key, request.key, 0, 2.0, None, begun)

        assert list(store.rows(begun)) == [Out(request.key, 1, 2.0, request)]
        assert store.batches("https://x/v1") == [begun]
        assert isinstance(begun, Batch)
