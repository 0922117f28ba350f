import json
from collections import Counter

import msgspec
import pytest

from schemas.chat import Words
from schemas.params import AuthorPrompt, Topic, Wording
from schemas.record import Commission, Message
from tests.train.author.written import GOOD, a_reply, an_item
from train.author.alike import Seen, text_of
from train.author.curriculum import BEST, VARIATIONS, Curriculum, Mix

WORDS = Words(
    prompt=AuthorPrompt(
        system="",
        write="写一道{difficulty}的{topic}题，{type}。",
        vary="改编这道{topic}题：{variation}。\n{item}",
        variations={"context_change": "换情境", "parameter_change": "换数", "practical_application": "联系实际"},
        improve="",
    ),
    topics={slug: Topic(name, 1, 0) for slug, name in (("algebra", "代数"), ("geometry", "几何"))},
    difficulties={"basic": Wording("基础", "")},
    types={"factual": Wording("事实性", "")},
)
SHARES = Mix(base=0.4, variation=0.3, innovation=0.2)


def a_commission(n=0, topic="algebra"):
    prompt = (Message(role="user", content=f"写一道题 {n}"),)
    return Commission(id=f"{topic}/{n}", topic=topic, difficulty="basic", type="factual", prompt=prompt)


def a_curriculum(mix=SHARES, fits=lambda prompt: True):
    return Curriculum(mix, WORDS, "请跳出常见的题型。", Seen(), fits, seed=7)


def asked(curriculum, count, first=0):
    return [curriculum.put([a_commission(n)])[0] for n in range(first, first + count)]


def text(commission):
    return commission.prompt[-1].content


def a_question(n):
    """One of 52 questions that differ in more than numbers, and their like."""
    letter, form = "abcmnpqrstxyz"[n % 13], FORMS[n // 13 % len(FORMS)]
    a, b, right = n % 7 + 2, n % 5 + 1, n % 9 + 1
    question = form.format(a=a, b=b, x=letter, c=a * right + b)
    options = tuple(str(right + further) for further in (0, 10, 11, 12))
    return an_item(question=question, options=options, steps=("移项。",), answer="A")


FORMS = (
    "方程{a}{x}+{b}={c}的解是多少？",
    "方程{b}+{a}{x}={c}的解是多少？",
    "方程{c}={a}{x}+{b}的解是多少？",
    "求方程{a}{x}+{b}={c}的根。",
)


def test_prompts_come_in_their_shares_from_the_first_to_the_last():
    curriculum = a_curriculum()
    curriculum.remember([a_commission()], [a_reply()], [0.7])

    asked(curriculum, 100)

    assert curriculum.asked == {"base": 40, "variation": 30, "innovation": 20, "replay": 10}


@pytest.mark.parametrize(
    ("mix", "kinds"),
    [
        (Mix(base=1.0, variation=0.0, innovation=0.0), {"base": 20, "variation": 0, "innovation": 0, "replay": 0}),
        (Mix(base=0.5, variation=0.5, innovation=0.0), {"base": 20, "variation": 0, "innovation": 0, "replay": 0}),
        (Mix(base=0.4, variation=0.4, innovation=0.2), {"base": 12, "variation": 0, "innovation": 8, "replay": 0}),
        (Mix(base=0.0, variation=1.0, innovation=0.0), {"base": 20, "variation": 0, "innovation": 0, "replay": 0}),
        (Mix(base=0.0, variation=0.0, innovation=0.5), {"base": 0, "variation": 0, "innovation": 10, "replay": 10}),
    ],
)
def test_where_there_is_nothing_to_vary_or_repeat_the_others_make_up_for_it(mix, kinds):
    curriculum = a_curriculum(mix)

    asked(curriculum, 20)

    assert curriculum.asked == kinds


def test_variations_make_up_for_what_they_missed_while_there_was_nothing_to_vary():
    curriculum = a_curriculum()
    asked(curriculum, 20)

    curriculum.remember([a_commission()], [a_reply()], [0.7])
    asked(curriculum, 80, first=20)

    assert curriculum.asked == {"base": 40, "variation": 30, "innovation": 20, "replay": 10}


def test_shares_above_one_are_refused():
    with pytest.raises(msgspec.ValidationError, match="more than 1 together"):
        msgspec.convert({"base": 0.6, "variation": 0.3, "innovation": 0.2}, Mix)


def test_a_variation_has_the_cell_and_the_item_of_the_best_and_its_kinds_in_turn():
    curriculum = a_curriculum(Mix(base=0.0, variation=1.0, innovation=0.0))
    curriculum.remember([a_commission(topic="geometry")], [a_reply()], [0.7])

    found = asked(curriculum, 6)

    assert {(one.topic, one.difficulty, one.type) for one in found} == {("geometry", "basic", "factual")}
    assert all(GOOD.question in text(one) and "几何" in text(one) for one in found)
    ways = [next(how for how in VARIATIONS if WORDS.prompt.variations[how] in text(one)) for one in found]
    assert Counter(ways) == dict.fromkeys(VARIATIONS, 2)


def test_a_request_for_the_new_is_the_commission_and_a_sentence():
    (found,) = asked(a_curriculum(Mix(base=0.0, variation=0.0, innovation=1.0)), 1)

    assert text(found) == "写一道题 0\n请跳出常见的题型。"


def test_what_is_put_once_more_was_put_before_with_the_same_cell():
    curriculum = a_curriculum(Mix(base=0.5, variation=0.0, innovation=0.0))
    first = asked(curriculum, 1)

    found = asked(curriculum, 9, first=1)

    assert curriculum.asked["replay"] == 5
    assert sum(Counter(map(text, [*first, *found])).values()) - len(set(map(text, [*first, *found]))) == 5


def test_the_best_are_confirmed_whole_and_of_those_that_differ_in_numbers_one():
    curriculum = a_curriculum()
    other = an_item(question="方程4x+6=26的解是多少？")
    unread = an_item(question="某数的三倍加五是二十，这个数是多少？")
    wrong = an_item(answer="A")
    replies = [a_reply(GOOD), a_reply(other), a_reply(unread), a_reply(wrong), "好的。"]

    curriculum.remember([a_commission(n) for n in range(5)], replies, [0.5, 0.6, 0.9, 0.9, 0.9])

    assert [(one.item, one.total) for one in curriculum.best] == [(other, 0.6)]
    assert list(curriculum.seen.own) == [text_of(GOOD), text_of(other), text_of(unread)]


def test_no_more_than_the_best_are_kept():
    curriculum = a_curriculum()
    many = [a_question(n) for n in range(BEST + 20)]

    curriculum.remember([a_commission()] * len(many), list(map(a_reply, many)), [n / 100 for n in range(len(many))])

    assert [one.total for one in curriculum.best] == [n / 100 for n in range(BEST + 19, 19, -1)]


def test_what_would_make_too_long_a_prompt_is_not_varied():
    curriculum = a_curriculum(fits=lambda prompt: len(prompt[-1].content) < 100)

    curriculum.remember([a_commission()], [a_reply()], [0.7])

    assert curriculum.best == []


def test_a_run_that_goes_on_asks_as_one_that_was_never_stopped():
    def step(curriculum, number):
        told = curriculum.put([a_commission(8 * number + n) for n in range(8)])
        replies = [a_reply(a_question(8 * number + n)) for n in range(8)]
        curriculum.remember(told, replies, [n / 10 for n in range(8)])
        return told

    whole, resumed = a_curriculum(), a_curriculum()
    expected = [step(whole, number) for number in range(12)]
    half = a_curriculum()
    for number in range(7):
        step(half, number)
    resumed.look_back(json.loads(json.dumps(half.kept())))

    assert [step(resumed, number) for number in range(7, 12)] == expected[7:]
    assert resumed.kept() == whole.kept()


def test_a_run_from_the_start_remembers_nothing():
    curriculum = a_curriculum()
    curriculum.remember([a_commission()], [a_reply()], [0.7])
    asked(curriculum, 3)

    curriculum.look_back(None)

    assert curriculum.kept() == a_curriculum().kept()
