import asyncio
from collections import Counter

import httpx
import msgspec
import pytest

from datagen.teacher.compose import FORMS
from datagen.teacher.replies import Refusal, complete
from datagen.teacher.server import DRAWN, Faults, create_app
from schemas import chain
from schemas.record import Item

MARKED = "主题：经济发展（economy）\n难度：基础（basic）\n题型：事实性（factual）\n推理链：简短（short）\n"


def a_call(user: str = MARKED, **changed: object) -> bytes:
    body = {"model": "embedded", "messages": [{"role": "user", "content": user}], "seed": 1}
    return msgspec.json.encode(body | changed)


def content(reply: bytes | Refusal) -> str:
    assert isinstance(reply, bytes), reply
    return msgspec.json.decode(reply)["choices"][0]["message"]["content"]


def post(app, *bodies: bytes, path: str = "/v1/chat/completions", timeout: float = 5.0) -> list[httpx.Response]:
    """Send all at once, in process."""

    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://teacher") as client:
            return await asyncio.wait_for(asyncio.gather(*(client.post(path, content=b) for b in bodies)), timeout)

    return asyncio.run(send())


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
    async def get(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app()), base_url="http://teacher") as client:
            return await client.get(path)

    assert asyncio.run(get("/v1/models")).json()["data"][0]["id"] == "embedded"
    assert asyncio.run(get("/v1/nothing")).status_code == 404


@pytest.mark.parametrize("fault", DRAWN)
def test_faults_come_at_their_rate_and_the_same_for_the_same_seed(fault):
    def drawn(seed: int) -> list[str | None]:
        app = create_app(Faults(**{fault: 0.3}, seed=seed))
        return [app._drawn() for _ in range(200)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 35 < Counter(drawn(1))[fault] < 85


@pytest.mark.parametrize(
    ("faults", "status", "body"),
    [
        (Faults(refuse=1), 429, "too many requests"),
        (Faults(error=1), 500, "on purpose"),
        (Faults(html=1), 200, "<!DOCTYPE html>"),
        (Faults(choiceless=1), 200, '"choices":[]'),
        (Faults(malformed=1), 200, "<answer>"),
        (Faults(truncate=1), 200, '"created"'),
    ],
)
def test_each_fault_looks_as_it_does_in_the_wild(faults, status, body):
    (response,) = post(create_app(faults), a_call())

    assert response.status_code == status
    assert body in response.text


def test_a_refusal_says_how_long_to_wait():
    (response,) = post(create_app(Faults(refuse=1, retry_after=7)), a_call())

    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_hanging_or_dripping_call_does_not_end_by_itself(fault):
    with pytest.raises(TimeoutError):
        post(create_app(Faults(**{fault: 1})), a_call(), timeout=0.3)


def test_malformed_xml_is_right_when_asked_again_unless_stubborn():
    again = a_call(
        messages=[
            {"role": "user", "content": MARKED},
            {"role": "assistant", "content": "<item>"},
            {"role": "user", "content": "x"},
        ]
    )

    (mended,) = post(create_app(Faults(malformed=1)), again)
    (broken,) = post(create_app(Faults(malformed=1, stubborn=True)), again)

    assert "<output>" in mended.text
    assert "<output>" not in broken.text


def test_calls_at_the_same_time_are_drawn_apart():
    found = post(create_app(Faults(error=0.5, latency=0.01)), *[a_call()] * 40)
    statuses = Counter(response.status_code for response in found)

    assert min(statuses[200], statuses[500]) > 8


def test_calls_above_the_capacity_are_refused():
    app = create_app(Faults(capacity=3, latency=0.05))

    statuses = Counter(response.status_code for response in post(app, *[a_call()] * 8))

    assert statuses == {200: 3, 429: 5}
