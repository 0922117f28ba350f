import asyncio
from datetime import UTC, datetime

import pytest

from datagen.client import Failure, Reply, connect, read, refusal, retry_after
from datagen.grid import Body, Generate, Request
from schemas.faults import Fault
from schemas.record import Message

KEY = "sk-canary-0123456789abcdef"
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
MARKED = "主题：经济发展（economy）\n难度：基础（basic）\n题型：事实性（factual）\n推理链：简短（short）\n"


def a_request(user: str = MARKED) -> Request:
    body = Body("embedded", (Message(role="user", content=user),), 1.0, 2048, 0)
    return Request("economy", "basic", "factual", 0, 0, "here", body)


def a_generate(base_url: str, timeout: float = 5.0) -> Generate:
    return Generate(
        base_url=base_url,
        model="embedded",
        api_key_env="DATAGEN_TEST_KEY",
        chain="short",
        concurrency=4,
        timeout=timeout,
        attempts=3,
        reasks=2,
        temperature=1.0,
        max_tokens=2048,
        min_yield=0.95,
    )


def asked(base_url: str, timeout: float = 5.0, user: str = MARKED) -> Reply | Failure:
    async def once() -> Reply | Failure:
        async with connect(a_generate(base_url, timeout)) as ask:
            return await ask(a_request(user))

    return asyncio.run(once())


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("DATAGEN_TEST_KEY", KEY)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "rejected"),
        (401, "fatal"),
        (402, "fatal"),
        (403, "fatal"),
        (404, "fatal"),
        (408, "server"),
        (413, "rejected"),
        (422, "rejected"),
        (429, "refused"),
        (500, "server"),
        (502, "server"),
        (503, "server"),
        (529, "server"),
    ],
)
def test_a_status_says_whether_trying_again_can_help(status, kind):
    failure = refusal(status, {"retry-after": "3"}, b'{"error": {"message": "why", "code": null}}', NOW)

    assert (failure.kind, failure.status, failure.detail) == (kind, status, f"HTTP {status}: why")
    assert failure.retry_after == (3.0 if kind in ("refused", "server") else None)


def test_an_empty_account_is_fatal_though_its_status_is_429():
    body = b'{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'

    assert refusal(429, {}, body, NOW).kind == "fatal"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<h1>Bad\ngateway</h1>", "HTTP 502: <h1>Bad gateway</h1>"),
        (b"", "HTTP 502: no message"),
        (b"\xff", "HTTP 502: \ufffd"),
    ],
)
def test_an_error_that_is_not_json_is_quoted(body, said):
    assert refusal(502, {}, body, NOW).detail == said


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            b'{"model":"m","choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}',
            Reply("x", "stop", "m", 3, 1),
        ),
        (
            b'{"model":"m","choices":[{"message":{"content":"x"},"finish_reason":"length"}]}',
            Reply("x", "length", "m", 0, 0),
        ),
        (b'{"model":"m","choices":[{"message":{"content":null}}]}', Reply("", "stop", "m", 0, 0)),
        (b'{"model":"m","choices":[]}', Failure("garbled", 200, "the reply has no choices")),
    ],
)
def test_the_body_of_a_200_is_read_into_a_reply(body, found):
    assert read(body) == found


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"choices":[{"mess', b"[]", b'"text"', b'{"choices":null}', b"\xff\xfe"]
)
def test_a_200_that_holds_no_completion_is_a_failure(body):
    failure = read(body)

    assert isinstance(failure, Failure)
    assert failure.kind == "garbled"


@pytest.mark.parametrize("where", ["in process", "on a port"])
def test_the_embedded_teacher_replies(serve, where):
    base_url = "embedded" if where == "in process" else serve()[1]

    reply = asked(base_url)

    assert isinstance(reply, Reply)
    assert reply.content.startswith("<item>")
    assert reply.completion_tokens == len(reply.content)


@pytest.mark.parametrize(
    ("faults", "kind", "status"),
    [
        ({"refuse": 1}, "refused", 429),
        ({"error": 1}, "server", 500),
        ({"truncate": 1}, "garbled", 200),
        ({"html": 1}, "garbled", 200),
        ({"empty": 1}, "garbled", 200),
        ({"choiceless": 1}, "garbled", 200),
        ({"hang": 1}, "timeout", None),
        ({"drip": 1}, "timeout", None),
    ],
)
def test_each_fault_of_an_endpoint_comes_back_as_data(serve, faults, kind, status):
    _, base_url = serve(**faults, retry_after=2)

    failure = asked(base_url, timeout=0.4 if kind == "timeout" else 5.0)

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status) == (kind, status)
    assert failure.retry_after == (2.0 if kind == "refused" else None)


def test_an_endpoint_that_breaks_off_in_the_middle_is_a_network_failure(serve):
    async def broken(scope, receive, send):
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"choices":', "more_body": True})

    failure = asked(serve(broken)[1])

    assert isinstance(failure, Failure)
    assert failure.kind == "network"


def test_nobody_listening_is_a_network_failure_that_says_so():
    failure = asked("http://127.0.0.1:9/v1")

    assert isinstance(failure, Failure)
    assert failure.kind == "network"
    assert "127.0.0.1" in failure.detail


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_key_that_the_endpoint_repeats_is_struck_out(serve, status):
    async def echo(scope, receive, send):
        key = dict(scope["headers"])[b"authorization"].removeprefix(b"Bearer ")
        assert key.decode() == KEY
        body = b'{"error":{"message":"Incorrect API key: %s"},"choices":[{"message":{"content":"%s"}}]}' % (key, key)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    outcome = asked(serve(echo)[1])

    assert "canary" not in repr(outcome)
    assert "[key]" in repr(outcome)


def test_a_real_endpoint_without_its_key_is_a_fault_that_names_the_variable(monkeypatch):
    monkeypatch.delenv("DATAGEN_TEST_KEY")

    with pytest.raises(Fault, match=r"\$DATAGEN_TEST_KEY is not set: .*https://x/v1 .*any value will do"):
        asked("https://x/v1")


def test_the_embedded_teacher_wants_no_key(monkeypatch):
    monkeypatch.delenv("DATAGEN_TEST_KEY")

    assert isinstance(asked("embedded"), Reply)
