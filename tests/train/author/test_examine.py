import pytest

from schemas import chain
from tests.train.author.written import GOOD, a_reply, an_item
from train.author.examine import examine


@pytest.mark.parametrize(
    ("changed", "verdict", "why"),
    [
        ({}, "confirmed", ""),
        ({"answer": "A"}, "refuted", "another_right_option"),
        ({"options": ("4", "7", "6", "15")}, "refuted", "no_right_option"),
        ({"options": ("4", "5", "6", "10/2")}, "refuted", "several_right_options"),
        ({"options": ("4", "5", "6", "６")}, "malformed", "options_not_distinct"),
        ({"steps": ("移项，3x=20-5=16。", "x=5。")}, "refuted", "false_equality"),
        ({"think": "7+8=16"}, "refuted", "false_equality"),
        ({"reflection": "7+8=16"}, "refuted", "false_equality"),
        ({"adjustment": "7+8=16"}, "refuted", "false_equality"),
        ({"question": "下列说法中哪一个最恰当？"}, "unchecked", ""),
    ],
)
def test_an_item_has_a_verdict_and_a_reason(changed, verdict, why):
    found = examine(a_reply(an_item(**changed)))

    assert (found.verdict, found.why) == (verdict, why)
    assert found.item == an_item(**changed)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (a_reply(), "confirmed"),
        (a_reply(thinking=False), "confirmed"),
        (chain.write(GOOD), "confirmed"),
        ("<think>先写 <item> 再检查</think>\n" + chain.write(GOOD), "confirmed"),
        ("<think>草稿：" + chain.write(GOOD) + "</think>\n\n" + chain.write(GOOD), "confirmed"),
        ("<think>只有想法，没有写完", "malformed"),
        ("<think>\n\n</think>\n\n", "malformed"),
        (chain.write(GOOD) + "\n以上。", "malformed"),
        (chain.write(GOOD) * 2, "malformed"),
        ("好的，我来出题。", "malformed"),
        ("", "malformed"),
    ],
)
def test_thoughts_go_before_an_item_and_nothing_else_does(reply, verdict):
    assert examine(reply).verdict == verdict
    assert (examine(reply).item is None) == (verdict == "malformed")


def test_the_items_own_thoughts_stay_in_it():
    assert examine(a_reply(thinking=False)).item == GOOD


def test_what_is_wrong_is_told_to_a_person():
    found = examine(a_reply(an_item(answer="A", steps=("3x=20-5=16",))))

    assert found.faults == {"false_equality": "20-5=16", "another_right_option": "the answer is A, right is B"}
