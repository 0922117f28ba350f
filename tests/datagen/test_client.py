import asyncio
import gzip
import html
import json
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from datagen import client
from datagen.asking import UNBILLED
from datagen.client import HEAD, Failure, Reply, connect, read, redact, refusal, retry_after
from datagen.grid import Body, Request
from datagen.settings import Teacher
from datagen.teacher.faults import Faults
from datagen.teacher.server import create_app
from schemas.faults import Fault
from schemas.record import Message

KEY = "sk-canary-0123456789abcdef"
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
MARKED = "主题：经济发展（economy）\n难度：基础（basic）\n题型：事实性（factual）\n推理链：简短（short）\n"
GOOD = b'{"model":"m","choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'


def a_request(user: str = MARKED) -> Request:
    body = Body("embedded", (Message(role="user", content=user),), 1.0, 2048, 0)
    return Request("economy", "basic", "factual", 0, 0, "here", body)


def asked(base_url: str, timeout: float = 5.0) -> Reply | Failure:
    teacher = Teacher(base_url, "embedded", "DATAGEN_TEST_KEY", 1.0, 2048, {})

    async def once() -> Reply | Failure:
        async with connect(teacher, 4) as ask:
            return await ask(a_request(), timeout)

    return asyncio.run(once())


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[..., object]:
    """An endpoint that answers every call so."""

    async def app(scope, receive, send):
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": named})
        await send({"type": "http.response.body", "body": body})

    return app


async def breaking_off(scope, receive, send):
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"choices":', "more_body": True})


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("DATAGEN_TEST_KEY", KEY)
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 99 Jan 2026 11:00:00 GMT"}, None),
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
        (301, "fatal"),
        (308, "fatal"),
        (400, "rejected"),
        (401, "fatal"),
        (402, "fatal"),
        (403, "fatal"),
        (404, "fatal"),
        (405, "fatal"),
        (407, "fatal"),
        (408, "server"),
        (409, "server"),
        (413, "rejected"),
        (422, "rejected"),
        (425, "server"),
        (429, "refused"),
        (500, "server"),
        (502, "server"),
        (503, "server"),
        (529, "server"),
    ],
)
def test_a_status_says_whether_trying_again_can_help(status, kind):
    failure = refusal(status, {"retry-after": "3"}, b'{"error": {"message": "why", "code": null}}', NOW)

    assert (failure.kind, failure.status) == (kind, status)
    assert failure.detail.startswith(f"HTTP {status}: ")
    assert status < 400 or failure.detail == f"HTTP {status}: why"
    assert failure.retry_after == (3.0 if kind in ("refused", "server") else None)


def test_an_empty_account_is_fatal_though_its_status_is_429():
    body = b'{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'

    assert refusal(429, {}, body, NOW).kind == "fatal"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<h1>Bad\ngateway</h1>", "HTTP 502: <h1>Bad gateway</h1>"),
        (b'{"detail": "over there"}', 'HTTP 502: {"detail": "over there"}'),
        (b"", "HTTP 502: no message"),
        (b"\xff", "HTTP 502: \ufffd"),
    ],
)
def test_an_error_that_is_not_in_the_protocol_s_json_is_quoted(body, said):
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
    "usage",
    [
        *("null", "[]", '{"prompt_tokens": null}', '{"completion_tokens": -1}', '{"prompt_tokens": 1e400}'),
        *('{"prompt_tokens": 99999999999999999999}', '{"prompt_tokens": 1.5}'),
    ],
)
def test_a_usage_that_makes_no_sense_is_no_reason_to_pay_for_another_reply(usage):
    assert read(GOOD[:-1] + b',"usage":%s}' % usage.encode()) == Reply("x", "stop", "m", 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b'{"choices":[{"mess', b"[]", b'"text"', b'{"choices":null}', b"\xff\xfe", GOOD[:-1]),
        GOOD.replace(b'"x"', b'"\\ud800"'),
    ],
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


FAULTS = {
    # What goes wrong: what the journal calls it, the status, words of its error.
    "refuses": (Faults(refuse=1, retry_after=601), "refused", 429, "HTTP 429: too many requests"),
    "refuses until a date": (Faults(refuse=1, retry_after=900, retry_date=True), "refused", 429, "too many requests"),
    "fails": (Faults(error=1), "server", 500, "HTTP 500: internal error"),
    "fails as a gateway does": (answering(502, b"<h1>Bad gateway</h1>"), "server", 502, "<h1>Bad gateway</h1>"),
    "wants another key": (Faults(unauthorized=1), "fatal", 401, "HTTP 401: Incorrect API key provided: [key]"),
    "has moved": (
        *(answering(301, location="https://b.example/v1"), "fatal", 301),
        "it has moved to https://b.example/v1; put that into base_url",
    ),
    "has moved for good": (answering(308), "fatal", 308, "it has moved to an address it does not name"),
    "cannot use the request": (answering(422, b'{"detail":"no"}'), "rejected", 422, 'HTTP 422: {"detail":"no"}'),
    "breaks off": (Faults(cut=1), "network", None, "ClientPayloadError: "),
    "breaks off before the JSON has begun": (breaking_off, "network", None, "ClientPayloadError: "),
    "sends half the JSON": (Faults(truncate=1), "garbled", 200, "no completion in the reply (Input data was truncated"),
    "sends a page": (Faults(html=1), "garbled", 200, "<!DOCTYPE html>"),
    "sends a page as JSON": (
        *(answering(200, b"<h1>Hello</h1>", content_type="application/json"), "garbled", 200),
        "<h1>Hello</h1>",
    ),
    "sends nothing": (Faults(empty=1), "garbled", 200, "empty body"),
    "sends no choices": (Faults(choiceless=1), "garbled", 200, "the reply has no choices"),
    "sends what is no gzip": (answering(200, GOOD, content_encoding="gzip"), "network", None, "ClientPayloadError: "),
    "hangs": (Faults(hang=1), "timeout", None, "no whole reply within 0.4 s"),
    "drips": (Faults(drip=1), "timeout", None, "no whole reply within 0.4 s"),
    "stops at max_tokens": (Faults(length=1), "bad", 200, "cut_short: "),
    "writes no good XML": (Faults(malformed=1), "bad", 200, "wrong_shape: "),
    "calls its JSON a page": (Faults(mistyped=1), "valid", 200, None),
}
SLOW = {"hangs", "drips"}


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault[1] not in ("bad", "valid")])
def test_each_fault_of_an_endpoint_comes_back_as_data(serve, name):
    app, kind, status, words = FAULTS[name]

    failure = asked(serve(create_app(app) if isinstance(app, Faults) else app)[1], 0.4 if name in SLOW else 5.0)

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status) == (kind, status)
    assert words in failure.detail
    assert (failure.retry_after or 0) > 600 or kind != "refused"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_an_endpoint_is_in_the_journal(project, serve, name):
    app, verdict, status, words = FAULTS[name]
    _, base_url = serve(create_app(app) if isinstance(app, Faults) else app)
    project.params(base_url=base_url, samples=1, attempts=1, reasks=0, timeout=0.4 if name in SLOW else 5.0)

    result = project.generate()

    assert result.exit_code == (verdict != "valid")
    journal = project.rows("SELECT verdict, status, error FROM attempts")
    assert 1 <= len(journal) <= 4
    assert {(found, code) for found, code, _ in journal} == {(verdict, status)}
    assert all(words in error if words else error is None for _, _, error in journal)
    (calls, tokens) = project.rows("SELECT calls, prompt_tokens + completion_tokens FROM ledger")[0]
    assert calls == len(journal)
    assert (tokens > 0) is (verdict not in UNBILLED)  # what may have been billed counts


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream", ""])
def test_a_good_completion_is_good_whatever_it_calls_itself(serve, kind):
    headers = {"content_type": kind} if kind else {}

    assert asked(serve(answering(200, GOOD, **headers))[1]) == Reply("x", "stop", "m", 0, 0)


def test_a_compressed_completion_is_read(serve):
    app = answering(200, gzip.compress(GOOD), content_type="application/json", content_encoding="gzip")

    assert asked(serve(app)[1]) == Reply("x", "stop", "m", 0, 0)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_endless_reply_is_read_no_further_than_any_completion_goes(serve, monkeypatch, compressed):
    monkeypatch.setattr(client, "MAX_BODY", 1000)
    long = GOOD.replace(b'"x"', b'"%s"' % (b"x" * 1000))
    app = answering(200, gzip.compress(long), content_encoding="gzip") if compressed else answering(200, long)

    failure = asked(serve(app)[1])

    assert isinstance(failure, Failure)
    assert failure.kind == "garbled"


def test_nobody_listening_is_a_failure_that_says_so_and_that_nobody_can_bill():
    failure = asked("http://127.0.0.1:9/v1")

    assert isinstance(failure, Failure)
    assert failure.kind == "unreached"
    assert "127.0.0.1" in failure.detail


@pytest.mark.parametrize("base_url", ["https://x..y/v1", "http://127.0.0.1:99999/v1", f"http://{'a' * 70}.invalid/v1"])
def test_an_address_that_cannot_be_one_is_never_reached(base_url):
    failure = asked(base_url)

    assert isinstance(failure, Failure)
    assert failure.kind == "unreached"


# --- the key ---------------------------------------------------------------------------------------------------------

ODD = "sk-canary/01+23=45&67\"89'ab<cd\\ef"


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


@pytest.mark.parametrize(
    "written",
    [
        *(ODD, json.dumps(ODD), json.dumps(ODD).replace("/", "\\/"), repr(ODD)),
        *(quote(ODD), quote(ODD, safe=""), quote(ODD, safe="").lower()),
        *(html.escape(ODD), html.escape(ODD, quote=False), ODD.replace("/", "\\u002F").replace("+", "&#43;")),
    ],
)
def test_a_key_is_struck_out_however_it_is_written(written):
    assert redact(f"it was {written}", ODD).replace('"', "").replace("'", "") == "it was [key]"


def test_only_the_key_is_struck_out():
    assert redact("sk-canary, 0123456789abcdef", KEY) == "sk-canary, 0123456789abcdef"
    assert redact("no key, in truth", "no key") == "no key, in truth"  # too short for one


@pytest.mark.parametrize("key", [KEY, ODD])
@pytest.mark.parametrize("status", [200, 400])
def test_a_key_in_an_error_of_another_form_is_struck_out(serve, monkeypatch, key, status):
    monkeypatch.setenv("DATAGEN_TEST_KEY", key)
    body = json.dumps({"detail": f"wrong key {key}"}).replace("/", "\\/")

    failure = asked(serve(answering(status, body.encode()))[1])

    assert isinstance(failure, Failure)
    assert '{"detail": "wrong key [key]"}' in failure.detail


@pytest.mark.parametrize("before", range(HEAD - len(KEY) - 12, HEAD, 6))
def test_no_part_of_a_key_is_left_where_a_message_is_cut(serve, before):
    failure = asked(serve(answering(400, b"x" * before + KEY.encode() + b"y" * HEAD))[1])

    assert isinstance(failure, Failure)
    assert len(failure.detail) <= HEAD
    assert "sk" not in failure.detail
    assert "0" not in failure.detail.removeprefix("HTTP 400: ")


def test_a_key_in_the_address_of_a_redirect_is_struck_out(serve, monkeypatch):
    monkeypatch.setenv("DATAGEN_TEST_KEY", ODD)

    failure = asked(serve(answering(307, location=f"https://b.example/?key={quote(ODD, safe='')}"))[1])

    assert isinstance(failure, Failure)
    assert "https://b.example/?key=[key];" in failure.detail


def test_a_real_endpoint_without_its_key_is_a_fault_that_names_the_variable(monkeypatch):
    monkeypatch.delenv("DATAGEN_TEST_KEY")

    with pytest.raises(Fault, match=r"\$DATAGEN_TEST_KEY is not set: .*https://x/v1 .*any value will do"):
        asked("https://x/v1")


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\nX-Other: 1", "\ufeff" + KEY, "密钥"])
def test_a_key_with_characters_that_no_key_has_is_a_fault_that_does_not_repeat_it(monkeypatch, key):
    monkeypatch.setenv("DATAGEN_TEST_KEY", key)

    with pytest.raises(Fault, match=r"\$DATAGEN_TEST_KEY holds characters that no key has") as fault:
        asked("https://x/v1")

    assert "canary" not in fault.value.message


def test_the_embedded_teacher_wants_no_key(monkeypatch):
    monkeypatch.delenv("DATAGEN_TEST_KEY")

    assert isinstance(asked("embedded"), Reply)


# --- what the openai library takes from the environment --------------------------------------------------------------


def test_the_account_is_sent_as_the_openai_library_does(serve, monkeypatch):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope["headers"])
        await answering(200, GOOD)(scope, receive, send)

    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_2")
    asked(serve(app)[1])

    assert (seen[b"openai-organization"], seen[b"openai-project"]) == (b"org-1", b"proj_2")
    assert seen[b"authorization"] == f"Bearer {KEY}".encode()
    assert seen[b"content-type"] == b"application/json"


def test_a_call_goes_through_the_proxy_that_the_environment_names(serve, monkeypatch):
    teacher, base_url = serve()
    monkeypatch.setenv("HTTP_PROXY", base_url.removesuffix("/v1"))

    reply = asked("http://far.invalid/v1")

    assert isinstance(reply, Reply)
    assert teacher.calls == {"ok": 1}


def test_a_call_goes_past_the_proxy_where_the_environment_says_so(serve, monkeypatch):
    _, base_url = serve()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert isinstance(asked(base_url), Failure)

    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")

    assert isinstance(asked(base_url), Reply)
