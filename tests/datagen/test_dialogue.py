import pytest

from datagen.client import Reply
from datagen.dialogue import Done, Next, advance, begin, replay
from datagen.grid import Body, Request
from schemas.chain import write
from schemas.record import Item, Message

GOOD = write(
    Item(
        question="问？",
        options=("甲", "乙", "丙", "丁"),
        think="想。",
        steps=("一",),
        reflection="查。",
        adjustment=None,
        answer="B",
    )
)
BROKEN = GOOD.replace("<output>B</output>", "")


def a_reply(content: str = GOOD, finish: str = "stop") -> Reply:
    return Reply(content, finish, "m", 3, 1)


def a_request() -> Request:
    body = Body("m", (Message(role="user", content="写一道题"),), 1.0, 9, 0)
    return Request("economy", "basic", "factual", 0, 0, "https://x/v1", body)


def after(*contents: str, reasks: int = 2) -> Next | Done:
    """Where a conversation stands in which these replies came, in order."""
    replies = [a_reply(content) for content in contents]
    answered: dict[str, Reply] = {}
    while True:
        state = replay(a_request(), reasks, answered.get)
        if isinstance(state, Done) or not replies:
            return state
        answered[state.request.key] = replies.pop(0)


@pytest.mark.parametrize(
    ("content", "finish", "repairs"),
    [
        (GOOD, "stop", ()),
        (f"```xml\n{GOOD}\n```", "stop", ("code_fence",)),
        (f"好的：\n{GOOD}", "stop", ("surrounding_text",)),
        (GOOD, "length", ()),
    ],
)
def test_a_reply_that_curation_can_mend_ends_it(content, finish, repairs):
    reply = a_reply(content, finish)

    assert advance(begin(a_request()), reply, reasks=2) == Done((reply,), None, repairs)


@pytest.mark.parametrize(
    ("content", "finish", "reason"),
    [
        ("", "stop", "empty"),
        ("我不能回答", "stop", "not_xml"),
        (BROKEN, "stop", "wrong_shape"),
        (GOOD[:40], "length", "cut_short"),
    ],
)
def test_any_other_reply_is_bad_and_the_reason_says_why(content, finish, reason):
    state = advance(begin(a_request()), a_reply(content, finish), reasks=0)

    assert isinstance(state, Done)
    assert state.fault is not None
    assert state.fault.startswith(f"{reason}: ")


def test_a_request_without_a_reply_is_asked_as_it_is():
    key = a_request().key

    assert after() == begin(a_request()) == Next(a_request(), key, key, 0, ())


def test_a_good_reply_ends_it():
    assert after(GOOD) == Done((a_reply(),), None, ())


def test_a_bad_reply_is_asked_again_with_the_reply_and_its_fault():
    state = after(BROKEN)

    assert isinstance(state, Next)
    assert state.turn == 1
    assert state.bad == (a_reply(BROKEN),)
    assert [message.role for message in state.request.body.messages] == ["user", "assistant", "user"]
    assert "wrong_shape" in state.request.body.messages[-1].content
    assert state.request.key != a_request().key


def test_a_good_reply_to_a_reask_ends_it():
    assert after(BROKEN, BROKEN, GOOD) == Done((a_reply(BROKEN), a_reply(BROKEN), a_reply()), None, ())


@pytest.mark.parametrize("reasks", [0, 1, 2])
def test_a_reply_still_bad_after_all_reasks_is_kept_with_its_fault(reasks):
    state = after(*[BROKEN] * 9, reasks=reasks)

    assert isinstance(state, Done)
    assert len(state.replies) == 1 + reasks
    assert state.fault is not None
    assert state.fault.startswith("wrong_shape: ")
