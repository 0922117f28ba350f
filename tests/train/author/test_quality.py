import pickle
import random

import pytest
from msgspec.structs import replace

from schemas import chain
from schemas.record import Commission, Example, Item, Message
from tests.train.author.written import GOOD, a_reply, an_item
from train.author import alike
from train.author.alike import Seen, taught, text_of
from train.author.quality import LEVELS, QUALITIES, bound, measured

WEIGHTS = {"difficulty": 0.4, "novelty": 0.3, "rigor": 0.2, "diversity": 0.1}
OLD = an_item(question="方程7x-4=31的解是多少？", steps=("移项，7x=31+4=35。", "x=35/7=5。"))
TALK = Item(
    question="学习数学时，下列哪种态度最值得提倡？",
    options=("认真思考", "从不复习", "抄写答案", "放弃难题"),
    think="先想一想学习数学的态度。",
    steps=("学习数学要认真。", "因此应当认真思考。"),
    reflection="其他态度都不可取。",
    adjustment=None,
    answer="A",
)
HARD = Item(
    question="7^20除以15的余数是多少？",
    options=("1", "4", "7", "13"),
    think="先看7的幂除以15的余数，再用周期。",
    steps=("7^2=49=15*3+4，余数是4。", "4^2=16=15*1+1，所以7^4除以15余1。", "20=4*5，所以7^20除以15余1^5=1。"),
    reflection="若只算到7^2，会误得4。",
    adjustment=None,
    answer="A",
)


def parts(replies, difficulty="basic", taught=(), prompt="写一道基础的代数题，事实性。"):
    """What each quality gives to replies to one prompt."""
    columns = {"prompts": [prompt] * len(replies), "completions": replies, "difficulty": [difficulty] * len(replies)}
    seen = Seen(map(text_of, taught))
    return {name: bound(name, seen)(**columns) for name in QUALITIES}


def total(item, others=(), **columns):
    """What an item earns in all, among what else was written for its prompt."""
    replies = [item if isinstance(item, str) else a_reply(item), *map(a_reply, others)]
    return sum(WEIGHTS[name] * values[0] for name, values in parts(replies, **columns).items())


KEYWORDS = "用到韦达、判别式、同余、容斥、极值、周期、递推、裂项、勾股、导数、积分、极限。"


BY_LEVEL = {
    "basic": an_item(steps=("移项并除以3，x=(20-5)/3=5。",)),
    "intermediate": an_item(steps=("移项，3x=20-5=15。", "两边除以3，x=15/3=5。", "代回，3*5+5=20。")),
    "advanced": HARD,
}


@pytest.mark.parametrize(
    ("worse", "item", "others"),
    [
        ("a copy of an old one", OLD, ()),
        ("empty talk", TALK, ()),
        ("empty talk with every keyword", replace(TALK, steps=(KEYWORDS, "因此应当认真思考。")), ()),
        ("an unsolvable question", an_item(question="方程3x+5=3x+20的解是多少？"), ()),
        ("two right options", an_item(options=("5", "10/2", "6", "15")), ()),
        ("a wrong answer", an_item(answer="C"), ()),
        ("no right option", an_item(options=("4", "7", "6", "15")), ()),
        ("the same question eight times", GOOD, (GOOD,) * 7),
        ("an item with a false equality", an_item(steps=("移项，3x=20-5=16。", "x=15/3=5。")), ()),
        ("options that are the same", an_item(options=("4", "5", "6", "６")), ()),
        ("no item", "好的，我来写一道题：方程3x+5=20的解是多少？", ()),
        ("an item cut off", a_reply()[:-20], ()),
        ("two items in one reply", a_reply() + chain.write(GOOD), ()),
    ],
)  # fmt: skip
def test_a_good_question_is_worth_more_than(worse, item, others):
    assert total(GOOD, taught=[OLD]) > total(item, others, taught=[OLD]) + 0.05, worse


def test_stuffing_a_question_with_keywords_pays_as_one_keyword_does():
    one = an_item(steps=(GOOD.steps[0], "用到周期。", GOOD.steps[1]))
    all_of_them = an_item(steps=(GOOD.steps[0], KEYWORDS, GOOD.steps[1]))

    assert total(all_of_them) == pytest.approx(total(one))
    assert total(all_of_them) - total(GOOD) < 0.05


@pytest.mark.parametrize("difficulty", LEVELS)
def test_a_question_is_worth_most_where_its_difficulty_was_asked_for(difficulty):
    made = {name: parts([a_reply(item)], difficulty=difficulty)["difficulty"][0] for name, item in BY_LEVEL.items()}

    assert max(made, key=made.__getitem__) == difficulty


def test_what_nobody_can_check_counts_a_quarter():
    unread = parts([a_reply(an_item(question="某数的三倍加五是二十，这个数是多少？"))])

    assert unread["novelty"] == [0.25]
    assert unread["diversity"] == [0.25]


@pytest.mark.parametrize(
    ("changed", "rigor"),
    [
        ({}, 1.0),
        ({"steps": ("3x=15。", "所以选B。")}, 1.0),
        ({"steps": ("3x=15。", "所以答案是（B）。")}, 1.0),
        ({"steps": ("3x=15。",), "adjustment": "更正：x=5。"}, 1.0),
        ({"steps": ("3x=15。", "所以选C。")}, 0.9),
        ({"steps": ("3x=15。", "x=5，所以选C。")}, 0.9),
        ({"steps": ("3x=15。", "由此得到结论。")}, 0.9),
        ({"steps": ("3x=15。", "只需看15与3。")}, 0.9),
        ({"steps": ("3x=20-5=16。", "x=5。")}, 0.8),
        ({"answer": "C", "steps": ("3x=15。", "x=6。")}, 0.8),
        ({"question": "某数的三倍加五是二十，这个数是多少？"}, 0.625),
        ({"options": ("4", "5", "6", "10/2")}, 0.5),
        ({"options": ("4", "7", "6", "15"), "steps": ("3x=20-5=16。", "x=7。")}, 0.3),
        ({"options": ("5", "7", "6", "6"), "answer": "A"}, 0.9),
    ],
)
def test_rigor_tells_by_how_much_a_question_is_wrong(changed, rigor):
    assert parts([a_reply(an_item(**changed))])["rigor"] == [pytest.approx(rigor)]


@pytest.mark.parametrize(
    ("item", "lowest", "highest"),
    [
        (GOOD, 0.0, 0.0),
        (an_item(question=" 方程 3x+5=20的解是 多少?"), 0.0, 0.0),  # width and space make no other question
        (an_item(question="方程4x+6=26的解是多少？"), 0.25, 0.31),  # its numbers alone differ
        (an_item(question="方程4x+5=20的解是多少？"), 0.0, 0.1),  # one of them alone
        (an_item(options=("4", "5", "7", "15")), 0.0, 0.0),  # another distractor makes no other question
        (an_item(question="若3x+5=20，则x等于多少？"), 0.2, 0.7),  # other words around the same numbers
        (HARD, 0.6, 1.0),
    ],
)
def test_novelty_is_the_distance_from_the_question_that_it_resembles_most(item, lowest, highest):
    reply = a_reply(item)

    (found,) = bound("novelty", Seen(map(text_of, [OLD, GOOD])))(completions=[reply])

    assert lowest <= found <= highest


def test_what_was_taught_is_the_items_among_chats():
    said = (a_reply(), a_reply(OLD, thinking=False), "B")

    chats = [Example(id=text, messages=(Message(role="assistant", content=text),)) for text in said]

    assert taught(chats) == [text_of(GOOD), text_of(OLD)]


def test_measured_are_replies_to_commissions_and_nothing_comes_to_what_was_seen():
    told = [
        Commission(
            id=str(n), topic="algebra", difficulty="basic", type="factual", prompt=(Message(role="user", content=text),)
        )
        for n, text in enumerate(("写一道题。", "写一道题。", "写另一道题。"))
    ]
    seen = Seen([text_of(GOOD)])

    found = measured(["novelty", "diversity"], told, [a_reply(), a_reply(), a_reply(HARD)], seen)

    assert list(found) == ["novelty", "diversity"]
    assert found["novelty"][:2] == [0.0, 0.0]
    assert found["novelty"][2] > 0.6
    assert found["diversity"] == [0.0, 0.0, 1.0]
    assert not seen.own


def test_a_copy_of_its_own_question_is_one_from_the_next_step_on():
    seen = Seen()
    novelty = bound("novelty", seen)

    first = novelty(completions=[a_reply(), a_reply()])
    seen.add([text_of(GOOD), text_of(GOOD)])

    assert first == [1.0, 1.0]
    assert novelty(completions=[a_reply()]) == [0.0]
    assert list(seen.own) == [text_of(GOOD)]


def test_what_was_taught_is_never_forgotten_and_its_own_is_after_a_thousand():
    seen = Seen([text_of(OLD)])
    seen.add(["甲乙丙丁戊己庚辛"])
    seen.add(f"三角形的三边是{n}、{n + 1}、{n + 2}，周长是多少？" for n in range(alike.WINDOW))

    assert len(seen.own) == alike.WINDOW
    assert seen.nearest([text_of(OLD)]) == [1.0]
    assert seen.nearest(["甲乙丙丁戊己庚辛"])[0] < 0.3


def test_a_window_that_went_with_a_checkpoint_finds_the_same():
    draw = random.Random(3)
    asked = [f"方程{draw.randint(2, 9)}x+{draw.randint(1, 9)}={draw.randint(10, 99)}的解是多少？" for _ in range(400)]
    whole, resumed = Seen([text_of(OLD)]), Seen([text_of(OLD)])
    whole.add(asked[:200])
    resumed.own.extend(list(whole.own))

    assert pickle.loads(pickle.dumps(whole)).nearest(asked) == whole.nearest(asked) == resumed.nearest(asked)


def test_diversity_is_within_a_prompt_and_rubbish_makes_nothing_diverse():
    item = {"options": ("4", "5", "6", "15")}
    replies = [a_reply(), a_reply(), "好的。", a_reply(HARD), a_reply(an_item(answer="A", **item))]
    prompts = [[{"role": "user", "content": text}] for text in ("一", "一", "一", "二", "二")]

    found = QUALITIES["diversity"](prompts=prompts, completions=replies)

    assert found == [0.0, 0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("name", QUALITIES)
def test_a_quality_stays_within_bounds_and_is_called_and_pickled_as_trl_does(name):
    quality = pickle.loads(pickle.dumps(bound(name, Seen([text_of(OLD)]))))
    replies = [
        [{"role": "assistant", "content": text}] for text in ("", a_reply(), a_reply(TALK), "<item>", a_reply(HARD))
    ]

    values = quality(
        prompts=[[{"role": "user", "content": "写"}]] * 5,
        completions=replies,
        completion_ids=[[1]] * 5,
        difficulty=["basic"] * 5,
        topic=["algebra"] * 5,
        trainer_state=None,
    )

    assert bound(name, Seen()).__name__ == name
    assert len(values) == 5
    assert all(0 <= value <= 1 for value in values)
    assert values[0] == values[3] == 0
