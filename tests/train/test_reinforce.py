import re

import pytest

from schemas.record import Message, Prompt
from train import reinforce


def some_prompts(n=20):
    return [Prompt(id=f"p{i}", prompt=(Message(role="user", content="?"),), answer="A") for i in range(n)]


def a_reply(id, total):
    return reinforce.Reply(id=id, response="", rewards={"valid": total}, total=total)


def test_what_is_held_out_depends_on_ids_alone_and_is_not_trained_on():
    prompts = some_prompts()

    training, held = reinforce.divide(prompts, 5, 7)
    _, again = reinforce.divide(prompts[::-1], 5, 7)

    assert {p.id for p in held} == {p.id for p in again}
    assert len(held) == 5
    assert not {p.id for p in training} & {p.id for p in held}


def test_replies_to_one_prompt_count_as_one_draw():
    replies = [a_reply("a", 0.0), a_reply("a", 1.0), a_reply("b", 0.5), a_reply("b", 0.5)]

    found = reinforce.summary(replies, {"valid": 1.0})

    assert found["mean"] == 0.5
    assert found["interval95"] == [0.5, 0.5]
    assert found["components"]["valid"]["mean"] == 0.5


def test_the_gain_is_paired_by_prompt():
    before = [a_reply("a", 0.1), a_reply("b", 0.5)]
    after = [a_reply("a", 0.3), a_reply("b", 0.7)]

    assert reinforce.gain(before, after) == {"mean": 0.2, "interval95": [0.2, 0.2]}


@pytest.mark.parametrize(
    ("equal", "prompts", "words"),
    [
        (20, 20, r"for all of 20 held-out prompts every reply earns the same"),
        (19, 20, r"for 19 of 20 held-out prompts"),
        (18, 20, None),
        (10, 10, None),  # so few may be alike by chance
    ],
)
def test_replies_that_earn_the_same_are_noticed_before_training(equal, prompts, words):
    replies = [a_reply(f"p{n}", vote if n >= equal else 0.7) for n in range(prompts) for vote in (0.1, 0.2)]

    found = reinforce.alike("grpo", replies)

    assert (found and found.wrong) == (words and equal == prompts)
    assert found is None or re.search(words, found.text)
