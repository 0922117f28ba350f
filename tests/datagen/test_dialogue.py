import pytest

from datagen.client import Reply
from datagen.dialogue import Done, Next, begin, replay
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
