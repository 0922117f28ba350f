import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.client import Reply
from datagen.grid import Body, Request
from datagen.store import Attempt, Store, TopicCount, claim, place
from schemas.faults import Fault
from schemas.record import Message


def a_request(sample: int = 0, text: str = "问") -> Request:
    body = Body("m", (Message(role="user", content=text),), 1.0, 9, sample)
    return Request("economy", "basic", "factual", sample, 0, "https://x/v1", body)


def an_attempt(verdict: str = "valid", error: str | None = None) -> Attempt:
    return Attempt(at=1.0, latency=0.5, status=200, verdict=verdict, error=error)


A_REPLY = Reply("答\u2028", "stop", "m-1", 3, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "responses.sqlite"


def test_a_reply_is_there_for_whoever_opens_the_store_next(path):
    request = a_request()
    Store(path).record(request, request.key, 0, an_attempt(), A_REPLY, None)

    assert Store(path).reply(request.key) == A_REPLY
    assert Store(path).reply(a_request(1).key) is None


def test_every_attempt_is_kept_in_order_failures_too(path):
    store, request = Store(path), a_request()
    store.record(request, request.key, 0, an_attempt("refused", "HTTP 429"), None, None)
    store.record(request, request.key, 0, an_attempt("server", "HTTP 500"), None, None)
    assert store.last_error(request.key) == "HTTP 500"

    store.record(request, request.key, 0, an_attempt("bad", "not_xml: x"), A_REPLY, "not_xml: x")

    (asked,) = store.conversation(request.key)
    assert [attempt.verdict for attempt in asked.attempts] == ["refused", "server", "bad"]
    assert asked.request == request
    assert asked.reply == A_REPLY
    assert asked.fault == "not_xml: x"


def test_a_conversation_is_found_by_the_beginning_of_any_of_its_keys(path):
    store, first, again = Store(path), a_request(), a_request(text="再问")
    store.record(first, first.key, 0, an_attempt("bad"), A_REPLY, "not_xml: x")
    store.record(again, first.key, 1, an_attempt(), A_REPLY, None)

    assert store.find(first.key[:8]) == store.find(again.key[:8]) == store.find(first.key) == [first.key]
    assert store.find("zzzz") == []
    assert [asked.turn for asked in store.conversation(first.key)] == [0, 1]


def test_what_has_not_been_asked_says_so(path):
    assert Store(path).last_error("0" * 64) == "not asked yet"


def test_counts_are_by_topic(path):
    store = Store(path)
    for sample, (verdict, reply, fault) in enumerate(
        [("valid", A_REPLY, None), ("bad", A_REPLY, "not_xml: x"), ("refused", None, None), ("network", None, None)]
    ):
        request = a_request(sample)
        store.record(request, request.key, 0, an_attempt(verdict), reply, fault)

    assert store.counts() == [
        TopicCount("economy", requests=4, valid=1, bad=1, attempts=4, refused=1, failed=1, tokens=8)
    ]


def test_a_store_of_another_version_is_refused(path):
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")

    with pytest.raises(Fault, match="version 99"):
        Store(path)


def test_a_file_that_is_no_store_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)

    with pytest.raises(Fault, match="not a database"):
        Store(path)


def test_a_full_disk_is_a_fault_and_leaves_no_half_attempt(path):
    store, request = Store(path), a_request()
    (pages,) = store.db.execute("PRAGMA page_count").fetchone()
    store.db.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(Fault, match=r"full; nothing is asked that could not be kept"):
        store.record(request, request.key, 0, an_attempt(), Reply("x" * 10**6, "stop", "m", 1, 1), None)

    assert store.counts() == []


def test_a_topic_is_held_by_one_process_which_is_named(path):
    code = (
        f"from datagen.store import claim\nfrom pathlib import Path\nwith claim(Path({str(path)!r}), 'economy'): pass"
    )
    environ = os.environ | {"PYTHONPATH": str(Path.cwd())}
    other = [sys.executable, "-c", code]

    with claim(path, "economy"):
        refused = subprocess.run(other, capture_output=True, text=True, env=environ)
    allowed = subprocess.run(other, capture_output=True, text=True, env=environ)

    assert f"economy is being asked for by process {os.getpid()}" in refused.stderr
    assert refused.returncode == 1
    assert allowed.returncode == 0


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
