import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from datagen.client import Reply
from datagen.grid import Body, Request
from datagen.store import (
    BALLAST,
    MIGRATIONS,
    Attempt,
    DiskFull,
    KindCount,
    OverBudget,
    Spent,
    Store,
    Taken,
    bound,
    look,
    place,
)
from schemas.faults import Fault
from schemas.record import Message

ROOT = Path(__file__).parents[2]


def a_request(sample: int = 0, text: str = "问", **changed: object) -> Request:
    body = Body("m", (Message(role="user", content=text),), 1.0, 9, sample)
    return replace(Request("economy", "basic", "factual", sample, 0, "https://x/v1", body), **changed)


def an_attempt(verdict: str = "valid", error: str | None = None, latency: float = 0.5) -> Attempt:
    return Attempt(at=1.0, latency=latency, status=200, verdict=verdict, error=error)


A_REPLY = Reply("答\u2028", "stop", "m-1", 3, 1)
MOST = bound(a_request().body)


def sent(store: Store, request: Request, root: str | None = None, turn: int = 0) -> int:
    return store.send(request, request.key, root or request.key, turn, 1.0)


def recorded(
    store: Store,
    request: Request,
    attempt: Attempt,
    reply: Reply | None = None,
    *,
    root: str | None = None,
    turn: int = 0,
    billed: bool = False,
) -> None:
    """Send a request and land it."""
    n = sent(store, request, root, turn)
    store.land(request, request.key, n, attempt, reply, billed=billed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "responses.sqlite"


def test_a_reply_is_there_for_whoever_opens_the_store_next(path):
    request = a_request()
    recorded(Store(path), request, an_attempt(), A_REPLY)

    assert Store(path).reply(request.key) == A_REPLY
    assert Store(path).reply(a_request(1).key) is None


def test_every_attempt_is_kept_in_order_failures_too(path):
    store, request = Store(path), a_request()
    recorded(store, request, an_attempt("refused", "HTTP 429"))
    recorded(store, request, an_attempt("server", "HTTP 500"))
    assert store.last_error(request.key) == "HTTP 500"

    recorded(store, request, an_attempt("bad", "not_xml: x"), A_REPLY)

    (asked,) = store.conversation(request.key)
    assert [attempt.verdict for attempt in asked.attempts] == ["refused", "server", "bad"]
    assert asked.request == request
    assert asked.reply == A_REPLY
    assert asked.fault == "not_xml: x"


def test_an_attempt_is_in_the_journal_before_it_is_sent(path):
    store, request = Store(path), a_request()

    sent(store, request)

    (asked,) = Store(path).conversation(request.key)
    assert asked.attempts == (Attempt(1.0, 0.0, None, "sent", None),)
    assert asked.reply is None


def test_a_conversation_is_found_by_the_beginning_of_any_of_its_keys(path):
    store, first, again = Store(path), a_request(), a_request(text="再问")
    recorded(store, first, an_attempt("bad", "not_xml: x"), A_REPLY)
    recorded(store, again, an_attempt(), A_REPLY, root=first.key, turn=1)

    assert store.find(first.key[:8]) == store.find(again.key[:8]) == store.find(first.key) == [first.key]
    assert store.find("zzzz") == []
    assert [asked.turn for asked in store.conversation(first.key)] == [0, 1]


def test_what_is_asked_about_a_record_is_kept_with_what_it_is_about(path):
    store, request = Store(path), a_request(kind="judge", subject="0123456789abcdef")
    recorded(store, request, an_attempt(), A_REPLY)

    (asked,) = store.conversation(request.key)

    assert asked.request == request


def test_what_an_endpoint_takes_beside_comes_back_with_the_request(path):
    store, body = Store(path), a_request().body
    request = a_request(body=replace(body, extra={"chat_template_kwargs": {"enable_thinking": False}}))
    recorded(store, request, an_attempt(), A_REPLY)

    (asked,) = store.conversation(request.key)

    assert asked.request == request


def test_what_has_not_been_asked_says_so(path):
    assert Store(path).last_error("0" * 64) == "not asked yet"


def test_counts_are_by_kind_and_model(path):
    store = Store(path)
    for sample, (verdict, reply) in enumerate([("valid", A_REPLY), ("refused", None), ("network", None)]):
        recorded(store, a_request(sample), an_attempt(verdict), reply)
    sent(store, a_request(3))
    recorded(store, a_request(4), an_attempt("bad", "not_xml: x"), A_REPLY)
    recorded(store, a_request(5), an_attempt(), A_REPLY, root=a_request(4).key, turn=1)
    recorded(store, a_request(kind="judge"), an_attempt(), A_REPLY)

    judge, write = store.counts()

    assert judge == KindCount("judge", "m", 1, 1, 1, 0, 0, 3, 1)
    assert write == KindCount(
        "write", "m", asked=5, valid=2, calls=6, refused=1, failed=1, prompt_tokens=9, completion_tokens=3
    )


def test_usage_is_what_a_request_came_to_its_reasks_included(path):
    store = Store(path)
    assert store.usage("write", "m") is None
    recorded(store, a_request(0), an_attempt(), Reply("", "stop", "m-1", 100, 20))
    recorded(store, a_request(1), an_attempt("bad", "x"), Reply("", "stop", "m-1", 100, 30))
    recorded(store, a_request(2), an_attempt(), Reply("", "stop", "m-1", 200, 50), root=a_request(1).key, turn=1)
    recorded(store, a_request(3), an_attempt("server", "HTTP 500"))
    recorded(store, a_request(4, kind="judge"), an_attempt(), Reply("", "stop", "m-1", 9999, 9999))

    usage = store.usage("write", "m")

    assert usage is not None
    assert (usage.requests, usage.prompt_tokens, usage.completion_tokens) == (2, 200.0, 50.0)
    assert usage.deviation == pytest.approx(130.0)  # of 120 and 380
    assert usage.latency == 0.75


def test_what_an_endpoint_bore_is_remembered_by_endpoint_and_model(path):
    store = Store(path)
    store.remember("https://x/v1", "m", b"{}")
    store.remember("https://x/v1", "m", b'{"level":8}')

    assert Store(path).remembered("https://x/v1", "m") == b'{"level":8}'
    assert store.remembered("https://x/v1", "other") is None


# --- what is spent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "billed", "tokens"),
    [
        (A_REPLY, True, (3, 1)),
        (Reply("", "stop", "m-1", 5, 0), True, (5, 0)),
        (Reply("答", "stop", "m-1", 0, 0), True, MOST),  # it does not say
        (None, False, (0, 0)),
        (None, True, MOST),
    ],
)
def test_a_call_counts_at_the_most_it_can_cost_until_it_is_known_better(path, reply, billed, tokens):
    store, request = Store(path), a_request()
    n = sent(store, request)
    assert store.spent() == [Spent("m", "call", 1, *MOST)]

    store.land(request, request.key, n, an_attempt(), reply, billed=billed)

    assert store.spent() == [Spent("m", "call", 1, *tokens)]


def test_the_most_a_call_can_cost_is_a_token_a_byte_and_max_tokens():
    assert bound(a_request(text="问" * 10).body) == (30 + 16, 9)


def test_a_call_that_is_over_the_budget_leaves_no_trace(path):
    store, request = Store(path), a_request()
    seen = []

    def over(spent: list[Spent]) -> str:
        seen.extend(spent)
        return "enough"

    with pytest.raises(OverBudget, match="enough"):
        store.send(request, request.key, request.key, 0, 1.0, over)

    assert seen == [Spent("m", "call", 1, *MOST)]
    assert store.spent() == []
    assert store.find(request.key) == []
    sent(store, request)  # its prompt too is written only now
    assert store.conversation(request.key)[0].request == request


# --- several runs ----------------------------------------------------------------------------------------------------


def test_what_has_a_reply_is_not_sent_again(path):
    store, request = Store(path), a_request()
    recorded(store, request, an_attempt(), A_REPLY)

    with pytest.raises(Taken):
        sent(Store(path), request)


def test_what_one_run_has_out_no_other_sends(path):
    with Store(path) as one, Store(path) as other:
        one.begin_run()
        other.begin_run()
        n = sent(one, a_request())

        assert other.out(a_request().key)
        assert not one.out(a_request().key)
        with pytest.raises(Taken):
            sent(other, a_request())

        one.land(a_request(), a_request().key, n, an_attempt("server"), None, billed=False)
        assert not other.out(a_request().key)
        assert sent(other, a_request()) == 2


def test_runs_are_counted_while_they_live(path):
    store = Store(path)
    assert store.living() == 0

    with Store(path) as one:
        one.begin_run()
        assert one.living() == 1
        with Store(path) as other:
            other.begin_run()
            assert [store.living(), one.living(), other.living()] == [2, 2, 2]
            assert store.alive(one.run)
            assert store.alive(other.run)
        assert store.living() == 1

    assert store.living() == 0
    assert not store.alive(one.run)
    assert store.runs() == (0, 0, 0)


def test_the_hours_of_all_runs_are_summed(path):
    for _ in range(2):
        with Store(path) as store:
            store.begin_run()
    Store(path).db.execute("UPDATE runs SET started = 100, seen = 160")

    assert Store(path).ran() == 120.0


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.datagen.test_store import Store, a_request, sent
store = Store(Path({path!r}))
store.begin_run()
sent(store, a_request(0))
sent(store, a_request(1))
print(store.run, flush=True)
sys.stdin.read()
"""


def test_a_run_that_is_killed_is_dead_at_once_and_its_calls_are_lost_at_the_most_they_can_cost(path):
    code = KILLED.format(root=str(ROOT), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    run = int(process.stdout.readline())
    store = Store(path)
    assert store.alive(run)
    assert store.out(a_request().key)
    assert store.runs() == (1, 2, 0)

    process.kill()
    process.communicate()

    assert not store.alive(run)
    assert not store.out(a_request().key)
    with store:
        assert store.begin_run() == 2
        assert store.runs() == (1, 0, 2)
        assert sent(store, a_request()) == 2
        assert store.spent() == [Spent("m", "call", 3, 3 * MOST[0], 3 * MOST[1])]
        assert store.conversation(a_request().key)[0].attempts[0] == Attempt(
            1.0, 0.0, None, "lost", "its run was killed; it may have been billed"
        )
    assert list(path.with_name("responses.sqlite-runs").iterdir()) == []


def test_a_later_run_is_not_told_of_the_same_losses_again(path):
    with Store(path) as store:
        store.begin_run()
        sent(store, a_request())  # and ends without it
    with Store(path) as store:
        assert store.begin_run() == 1

    with Store(path) as store:
        assert store.begin_run() == 0


# --- the file --------------------------------------------------------------------------------------------------------


def a_store_of_version_1(path: Path, request: Request) -> None:
    """One as the first version left it: two attempts, the second with a reply."""
    body = request.body
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript(MIGRATIONS[0])
        db.execute("INSERT INTO prompts VALUES ('p', ?)", ('[{"role":"user","content":"问"}]',))
        db.execute(
            "INSERT INTO requests VALUES (?, ?, 0, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, 'p')",
            (
                *(request.key, request.key, request.topic, request.difficulty, request.type, request.endpoint),
                *(body.model, body.temperature, body.max_tokens, body.seed),
            ),
        )
        db.execute("INSERT INTO attempts VALUES (?, 1, 1.0, 0.5, 500, 'm', 0, 0, 'server', 'HTTP 500')", (request.key,))
        db.execute("INSERT INTO attempts VALUES (?, 2, 2.0, 0.5, 200, 'm-1', 3, 1, 'valid', NULL)", (request.key,))
        db.execute("INSERT INTO replies VALUES (?, '答\u2028', 'stop', 'm-1', 3, 1, NULL, 2.5)", (request.key,))
        db.execute("PRAGMA user_version = 1")


def test_a_store_of_the_first_version_goes_on_with_all_it_holds(path):
    request = a_request()
    a_store_of_version_1(path, request)

    store = Store(path)

    assert store.reply(request.key) == A_REPLY
    assert store.spent() == [Spent("m", "call", 2, 3, 1)]
    assert store.counts() == [KindCount("write", "m", 1, 1, 2, 0, 1, 3, 1)]
    (asked,) = store.conversation(request.key)
    assert asked.request == request
    assert [attempt.verdict for attempt in asked.attempts] == ["server", "valid"]
    with store:
        assert store.begin_run() == 0
        recorded(store, a_request(1), an_attempt(), A_REPLY)
        assert store.spent() == [Spent("m", "call", 3, 6, 2)]


def test_a_store_is_migrated_once_though_many_open_it(path):
    a_store_of_version_1(path, a_request())

    stores = [Store(path) for _ in range(3)]

    assert {tuple(store.spent()) for store in stores} == {(Spent("m", "call", 2, 3, 1),)}


def test_a_store_of_another_version_is_refused(path):
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")

    with pytest.raises(Fault, match="version 99"):
        Store(path)


def test_a_file_that_is_no_store_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)

    with pytest.raises(Fault, match="not a database"):
        Store(path)


def test_a_place_where_no_store_can_be_is_a_fault(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(Fault, match=r"file/store\.sqlite: .*\$DATAGEN_STORE names another place"):
        Store(tmp_path / "file" / "store.sqlite")


def test_looking_at_a_store_that_is_not_there_makes_none(path):
    with look(path) as store:
        assert store.spent() == []
        assert store.runs() == (0, 0, 0)

    assert not path.parent.exists()


def test_whoever_only_looks_waits_for_nobody_who_writes(path):
    recorded(Store(path), a_request(), an_attempt(), A_REPLY)
    writer = Store(path)
    writer.db.execute("BEGIN IMMEDIATE")

    with look(path) as store:
        assert store.reply(a_request().key) == A_REPLY


# --- a full disk -----------------------------------------------------------------------------------------------------


def fill(store: Store) -> None:
    """Let the file grow no further."""
    (pages,) = store.db.execute("PRAGMA page_count").fetchone()
    store.db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_a_fault_and_leaves_no_half_attempt(path):
    store, request = Store(path), a_request(text="问" * 10**6)
    fill(store)

    with pytest.raises(DiskFull, match=r"responses\.sqlite: .*full; nothing is asked that could not be kept"):
        sent(store, request)

    assert store.counts() == []
    assert store.spent() == []


def test_a_reply_that_finds_the_disk_full_is_kept_in_the_ballast_and_nothing_more_is_sent(disk):
    path = disk(12) / "responses.sqlite"
    with Store(path) as store:
        store.begin_run()
        requests = [a_request(sample) for sample in range(64)]
        numbers = [sent(store, request) for request in requests]
        disk.fill()

        for request, n in zip(requests, numbers, strict=True):
            store.land(request, request.key, n, an_attempt(), Reply("答" * 10_000, "stop", "m", 3, 1), billed=True)

        assert store.full
        with pytest.raises(DiskFull, match="the disk is full; nothing is asked that could not be kept"):
            sent(store, a_request(64))

    disk.clear()
    with Store(path) as store:
        assert store.begin_run() == 0
        assert all(store.reply(request.key) for request in requests)


def test_a_run_does_not_begin_without_room_for_its_ballast(disk):
    path = disk(4) / "responses.sqlite"

    with Store(path) as store, pytest.raises(Fault, match=rf"a run needs {BALLAST >> 20} MB beside the store to begin"):
        store.begin_run()

    assert list(path.with_name("responses.sqlite-runs").iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"DATAGEN_STORE": "/x/y.sqlite", "DVC_ROOT": "/z"}, "/x/y.sqlite"),
        ({"DVC_ROOT": "/z"}, "/z/.store/responses.sqlite"),
        ({}, "{project}/.store/responses.sqlite"),
    ],
)
def test_the_place_is_named_or_dvc_s_root_or_the_project_above(tmp_path, monkeypatch, environ, where):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for name in ("DATAGEN_STORE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert place() == Path(where.format(project=tmp_path))
