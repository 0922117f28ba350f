import asyncio
import contextlib
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from datagen.teacher import serve as command
from datagen.teacher.compose import FORMS
from datagen.teacher.faults import DRAWN, DRAWN_ROWS, Faults, Load
from datagen.teacher.replies import Refusal, complete
from datagen.teacher.server import create_app
from schemas import chain
from schemas.record import Item

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"

MARKED = "主题：经济发展（economy）\n难度：基础（basic）\n题型：事实性（factual）\n推理链：简短（short）\n"


def a_call(user: str = MARKED, **changed: object) -> bytes:
    body = {"model": "embedded", "messages": [{"role": "user", "content": user}], "seed": 1}
    return msgspec.json.encode(body | changed)


def content(reply: bytes | Refusal) -> str:
    assert isinstance(reply, bytes), reply
    return msgspec.json.decode(reply)["choices"][0]["message"]["content"]


def post(app, *bodies: bytes, path: str = CHAT, timeout: float = 5.0, key: str = "k") -> list[httpx.Response]:
    """Send all at once, in process."""
    headers = {"authorization": f"Bearer {key}"}

    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://teacher", headers=headers
        ) as client:
            return await asyncio.wait_for(asyncio.gather(*(client.post(path, content=b) for b in bodies)), timeout)

    return asyncio.run(send())


def get(app, path: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://teacher") as client:
            return await client.get(path)

    return asyncio.run(send())


def a_later_turn() -> bytes:
    asked, answered = {"role": "user", "content": MARKED}, {"role": "assistant", "content": "<item>"}
    return a_call(messages=[asked, answered, {"role": "user", "content": "x"}])


@pytest.mark.parametrize(("type_", "difficulty"), list(FORMS))
@pytest.mark.parametrize("word", ["full", "short"])
def test_every_cell_is_answered_by_a_strict_chain(type_, difficulty, word):
    user = MARKED.replace("factual", type_).replace("basic", difficulty).replace("short", word)

    assert isinstance(chain.parse(content(complete(a_call(user)))), Item)


def test_the_same_request_gets_the_same_reply_and_another_seed_another():
    assert complete(a_call()) == complete(a_call())
    assert content(complete(a_call())) != content(complete(a_call(seed=2)))


def test_a_conversation_that_goes_on_gets_the_question_it_was_asked_for():
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": MARKED},
        {"role": "assistant", "content": "<item>"},
        {"role": "user", "content": "再来一次"},
    ]

    assert content(complete(a_call(messages=turns))) == content(complete(a_call()))


def test_a_reply_longer_than_max_tokens_is_cut_and_says_so():
    reply = msgspec.json.decode(complete(a_call(max_tokens=20)))

    assert len(reply["choices"][0]["message"]["content"]) == 20
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not a chat completion request"),
        (a_call(messages=[]), "no line '主题"),
        (a_call("题目"), "no line '主题"),
        (a_call(MARKED.replace("难度：", "难度:")), "no line '难度"),
        (a_call(MARKED.replace("economy", "astrology")), "no fact sheet for topic 'astrology'"),
        (a_call(MARKED.replace("basic", "expert")), "no form for type 'factual' at difficulty 'expert'"),
        (a_call(MARKED.replace("short", "long")), "chain 'long'"),
        (a_call(stream=True), "does not stream"),
    ],
)
def test_a_request_it_cannot_answer_is_refused_with_what_is_wrong(body, message):
    (response,) = post(create_app(), body)

    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_it_lists_its_model_and_knows_no_other_route():
    assert get(create_app(), "/v1/models").json()["data"][0]["id"] == "embedded"
    assert get(create_app(), "/v1/nothing").status_code == 404


@pytest.mark.parametrize("fault", DRAWN)
def test_faults_come_at_their_rate_and_the_same_for_the_same_seed(fault):
    def drawn(seed: int) -> list[str | None]:
        app = create_app(Faults(**{fault: 0.3}, seed=seed))
        return [app._drawn() for _ in range(200)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 35 < Counter(drawn(1))[fault] < 85


@pytest.mark.parametrize("names", [DRAWN, DRAWN_ROWS])
def test_shares_that_exceed_one_together_are_refused(names):
    with pytest.raises(ValueError, match="must not exceed 1 together"):
        Faults(**dict.fromkeys(names, 1.01 / len(names)))


@pytest.mark.parametrize(
    ("faults", "status", "body"),
    [
        (Faults(refuse=1), 429, "too many requests"),
        (Faults(error=1), 500, "on purpose"),
        (Faults(html=1), 200, "<!DOCTYPE html>"),
        (Faults(choiceless=1), 200, '"choices":[]'),
        (Faults(malformed=1), 200, "<answer>"),
        (Faults(truncate=1), 200, '"created"'),
        (Faults(length=1), 200, '"finish_reason":"length"'),
    ],
)
def test_each_fault_looks_as_it_does_in_the_wild(faults, status, body):
    (response,) = post(create_app(faults), a_call())

    assert response.status_code == status
    assert body in response.text


def test_a_truncated_reply_is_a_whole_body_of_half_the_json():
    (response,) = post(create_app(Faults(truncate=1)), a_call())

    assert int(response.headers["content-length"]) == len(response.content)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(response.content)


def test_an_empty_reply_says_that_it_is_json():
    (response,) = post(create_app(Faults(empty=1)), a_call())

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/json"


def test_a_mistyped_reply_is_good_but_for_its_type():
    (response,) = post(create_app(Faults(mistyped=1)), a_call())

    assert response.headers["content-type"] == "text/html"
    assert response.content == complete(a_call())


def test_a_reply_cut_off_by_length_is_half_the_text_and_counts_as_that():
    whole = content(complete(a_call()))

    (response,) = post(create_app(Faults(length=1)), a_call())

    assert content(response.content) == whole[: len(whole) // 2]
    assert response.json()["usage"]["completion_tokens"] == len(whole) // 2


def test_a_refusal_of_the_key_repeats_it():
    (response,) = post(create_app(Faults(unauthorized=1)), a_call(), key="sk-secret")

    assert response.status_code == 401
    assert response.json()["error"]["message"] == "Incorrect API key provided: sk-secret."
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_a_refusal_says_how_long_to_wait():
    (response,) = post(create_app(Faults(refuse=1, retry_after=7)), a_call())

    assert response.headers["retry-after"] == "7"


def test_a_refusal_may_say_so_as_a_date():
    (response,) = post(create_app(Faults(refuse=1, retry_after=60, retry_date=True)), a_call())

    ahead = parsedate_to_datetime(response.headers["retry-after"]) - datetime.now(UTC)
    assert 55 < ahead.total_seconds() <= 60


def test_a_refusal_may_not_say_it():
    (response,) = post(create_app(Faults(refuse=1, retry_unsaid=True)), a_call())

    assert "retry-after" not in response.headers


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_hanging_or_dripping_call_does_not_end_by_itself(fault):
    with pytest.raises(TimeoutError):
        post(create_app(Faults(**{fault: 1})), a_call(), timeout=0.05)


def test_a_hanging_call_is_answered_well_in_the_end():
    app = create_app(Faults(hang=1, hang_for=0.03))

    begun = time.monotonic()
    (response,) = post(app, a_call())

    assert response.content == complete(a_call())
    assert time.monotonic() - begun >= 0.03
    assert app.calls == {"hang": 1}


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_hanging_or_dripping_call_ends_when_the_client_leaves(fault, serve, until):
    app, base_url = serve(**{fault: 1.0})

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{base_url}/chat/completions", content=a_call(), timeout=httpx.Timeout(5, read=0.05))

    until(lambda: app.serving == 0, 2)
    assert msgspec.json.decode(app.stats())["replies"] == 0


def test_a_cut_reply_announces_more_than_comes(serve):
    _app, base_url = serve(cut=1.0)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        httpx.post(f"{base_url}/chat/completions", content=a_call())
    with pytest.raises(ConnectionResetError):
        post(create_app(Faults(cut=1)), a_call())


@pytest.mark.parametrize("fault", ["malformed", "length"])
def test_what_is_broken_in_the_first_turn_is_right_when_asked_again_unless_stubborn(fault):
    app = create_app(Faults(**{fault: 1}))

    (mended,) = post(app, a_later_turn())
    (broken,) = post(create_app(Faults(**{fault: 1}, stubborn=True)), a_later_turn())

    assert mended.content == complete(a_later_turn())
    assert app.calls == {"ok": 1}
    assert broken.content != complete(a_later_turn())


def test_a_bad_request_is_called_that_whatever_was_drawn():
    app = create_app(Faults(malformed=1))

    (response,) = post(app, b"{")

    assert response.status_code == 400
    assert app.calls == {"bad_request": 1}


def test_calls_at_the_same_time_are_drawn_apart():
    found = post(create_app(Faults(error=0.5, latency=0.01)), *[a_call()] * 40)
    statuses = Counter(response.status_code for response in found)

    assert min(statuses[200], statuses[500]) > 8


def test_calls_above_the_capacity_are_refused():
    app = create_app(Faults(capacity=3, latency=0.05))

    statuses = Counter(response.status_code for response in post(app, *[a_call()] * 8))

    assert statuses == {200: 3, 429: 5}


def test_calls_above_the_rate_are_refused():
    app = create_app(Faults(rate=5))

    statuses = Counter(response.status_code for response in post(app, *[a_call()] * 8))

    assert statuses == {200: 5, 429: 3}


@pytest.mark.parametrize("faults", [{"refuse": 1.0}, {"unauthorized": 1.0}, {"rate": 0.001}])
def test_a_refusal_comes_at_once(faults):
    app = create_app(Faults(**faults, latency=60))
    app.load.admits(app.faults, time.monotonic(), serving=1)  # what the rate has for a while

    (response,) = post(app, a_call(), timeout=1)

    assert response.status_code in (401, 429)


@pytest.mark.parametrize(
    ("faults", "times", "admitted"),
    [
        (Faults(rate=2), [0, 0, 0, 0.4, 0.6, 0.6], [True, True, False, False, True, False]),
        (Faults(rate=2, burst=1), [0, 0, 0.6, 9, 9], [True, False, True, True, False]),
        (Faults(rate=0.5), [0, 0, 1, 2], [True, False, False, True]),
        (Faults(rate=1, burst=3), [0, 0, 0, 0, 100, 100, 100, 100], [True, True, True, False] * 2),
    ],
)
def test_a_rate_admits_what_has_gathered_up_to_its_burst(faults, times, admitted):
    load = Load(seed=0)

    assert [load.admits(faults, float(now), serving=1) for now in times] == admitted


def test_calls_wait_in_line_for_a_worker():
    load = Load(seed=0)
    faults = Faults(workers=2, latency=1.0)

    assert [load.seconds(faults, 10.0, serving=1) for _ in range(5)] == [1, 1, 2, 2, 3]
    assert load.seconds(faults, 20.0, serving=1) == 1


@pytest.mark.parametrize(("serving", "seconds"), [(1, 1.01), (10, 2.0), (20, 5.0)])
def test_strain_makes_every_call_slower_the_more_are_served(serving, seconds):
    assert Load(seed=0).seconds(Faults(strain=10, latency=1.0), 0.0, serving) == pytest.approx(seconds)


def test_jitter_spreads_the_latency_around_the_same_mean_the_same_for_the_same_seed():
    def spent(seed: int) -> list[float]:
        load = Load(seed)
        return [load.seconds(Faults(jitter=0.5, latency=2.0), 0.0, serving=1) for _ in range(4000)]

    assert statistics.fmean(spent(1)) == pytest.approx(2.0, rel=0.05)
    assert statistics.stdev(spent(1)) == pytest.approx(1.0, rel=0.1)
    assert min(spent(1)) > 0
    assert spent(1) == spent(1) != spent(2)


def test_calls_take_the_latency():
    begun = time.monotonic()

    post(create_app(Faults(latency=0.03, workers=1)), a_call(), a_call())

    assert time.monotonic() - begun >= 0.06


def test_stats_say_what_became_of_calls_and_how_many_were_served_at_once():
    app = create_app(Faults(latency=0.05))

    before = get(app, "/stats").json()
    post(app, a_call(), a_call(), a_call(), b"{")
    stats = get(app, "/stats").json()

    assert (before["calls"], before["seconds"]) == ({}, 0)
    assert stats["calls"] == {"ok": 3, "bad_request": 1}
    assert stats["replies"] == 3
    assert (stats["serving"], stats["serving_most"]) == (0, 4)
    assert 3 < stats["serving_mean"] <= 4
    assert stats["seconds"] >= 0.05
    assert stats["cpu_seconds"] > 0
    assert stats["rows"] == {}


def test_a_mean_covers_the_time_between_calls_and_not_the_time_since():
    app = create_app(Faults(latency=0.03))

    post(app, a_call())
    time.sleep(0.03)
    post(app, a_call())
    mean = get(app, "/stats").json()["serving_mean"]
    time.sleep(0.03)

    assert 0 < mean < 0.95
    assert get(app, "/stats").json()["serving_mean"] == mean


def test_stats_can_begin_anew():
    app = create_app()
    post(app, a_call())

    (fresh,) = post(app, b"", path="/stats/reset")

    assert fresh.json()["calls"] == {}
    assert fresh.json()["replies"] == fresh.json()["seconds"] == 0


@pytest.mark.parametrize("fault", ["refuse", "error", "choiceless", "truncate", "html", "empty", "unauthorized"])
def test_only_completions_written_to_their_end_count_as_replies(fault):
    app = create_app(Faults(**{fault: 1}))

    post(app, a_call())

    stats = get(app, "/stats").json()
    assert (stats["calls"], stats["replies"]) == ({fault: 1}, 0)


def test_every_switch_is_an_option_with_its_default():
    options = {option.name: option for option in command.main.params}

    assert set(options) == {"port", "keep", *Faults.__struct_fields__}
    for switch in msgspec.structs.fields(Faults):
        assert options[switch.name].default == switch.default
        assert len(options[switch.name].help) > 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retry-after", "-1"], "-1.0 is not in the range x>=0"),
        (["--cut", "1.5"], "is not in the range 0<=x<=1"),
        (["--cut", "0.6", "--error", "0.6"], "must not exceed 1 together"),
        (["--batch-error", "0.6", "--length", "0.6"], "must not exceed 1 together"),
        (["--port", "65536"], "is not in the range"),
    ],
)
def test_a_switch_out_of_its_bounds_is_refused(words, message):
    result = CliRunner().invoke(command.main, words)

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_port_that_is_taken_is_said_in_a_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(command.main, ["--port", str(port)])

    assert result.exit_code == 1
    assert result.stderr == f"127.0.0.1:{port}: Address already in use; choose another --port, or 0 for a free one\n"


def test_a_folder_that_cannot_be_made_is_said_in_a_line(tmp_path):
    (tmp_path / "file").touch()

    result = CliRunner().invoke(command.main, ["--port", "0", "--keep", str(tmp_path / "file" / "kept")])

    assert result.exit_code == 1
    assert "choose another folder" in result.stderr
    assert result.stderr.count("\n") == 1


def test_it_says_the_port_it_found_and_ends_quietly_on_ctrl_c_whatever_its_calls_are_at(until):
    words = [sys.executable, "-m", "datagen", "teacher", "--port", "0", "--cut", "0.5", "--hang", "0.5"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        base_url = process.stderr.readline().split(";")[0].removeprefix("teacher: ")
        host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
        call = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(a_call())) + a_call()
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(socket.create_connection((host, int(port)))).sendall(call)
            until(lambda: httpx.get(f"http://{host}:{port}/stats").json()["calls"].keys() == {"cut", "hang"})
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
    finally:
        process.kill()

    assert (process.wait(), said) == (0, "")
