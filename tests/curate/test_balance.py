from collections import Counter
from itertools import permutations

import pytest

from curate.balance import BalanceParams, balance, metrics, orders, reorder, unmovable
from schemas.record import LETTERS
from tests.curate.builders import a_record, many_records

PARAMS = BalanceParams(seed=7)


def test_letters_come_out_even_overall_and_in_each_topic():
    before = many_records(401)

    found = balance(before, PARAMS)

    numbers = metrics(before, found)
    assert numbers["letters_before"] == {"A": 401, "B": 0, "C": 0, "D": 0}
    for counts in (numbers["letters"], *numbers["topics"].values()):
        assert max(counts.values()) - min(counts.values()) <= 1


def test_rows_keep_their_order_their_right_text_and_their_options():
    before = many_records(60)

    after = balance(before, PARAMS).records

    for old, new in zip(before, after, strict=True):
        assert new.id == old.id
        assert new.text(new.answer) == old.text(old.answer)
        assert sorted(new.options) == sorted(old.options)
        assert new.steps[-1] == f"因此选项{new.answer}正确。"


def test_distractors_are_shuffled_too():
    orders = {
        tuple(option for option in record.options if option != record.text(record.answer))
        for record in balance([a_record(id=str(n)) for n in range(100)], PARAMS).records
    }

    assert orders == set(permutations(("2012年", "2016年", "2018年")))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": ("2012年", "2015年", "2016年", "以上都不是")}, "option_names_others"),
        ({"options": ("2012年", "2015年", "2016年", "A和C")}, "option_names_others"),
        ({"question": "A国于哪一年加入《巴黎协定》？"}, "letter_in_question"),
        ({"think": "A国先加入。"}, "letter_unclear"),
        ({"reflection": "第二个选项最合适。"}, "letter_unclear"),
        ({"adjustment": "改选C类。"}, "letter_unclear"),
    ],
)
def test_a_record_that_may_not_be_moved_stays_and_is_counted(changes, reason):
    record = a_record(**changes)

    found = balance([record], PARAMS)

    assert found.records == [record]
    assert found.unchanged == {reason: 1}


def test_movable_records_make_up_for_the_unmovable():
    fixed = [a_record(id=f"f{n}", think="A国先加入。", answer="B") for n in range(20)]
    free = [a_record(id=f"m{n}") for n in range(60)]

    found = balance([*fixed, *free], PARAMS)

    assert Counter(record.answer for record in found.records) == dict.fromkeys(LETTERS, 20)


@pytest.mark.parametrize("order", permutations(LETTERS))
@pytest.mark.parametrize("adjustment", [None, "仍选Ｂ。"])
def test_a_new_order_can_be_taken_back(order, adjustment):
    record = a_record(
        think="A、C两项年份偏早，维生素C与此无关。",
        steps=("A. 2012年：不符；选项D不符。", "2015年（B）", "故选B。"),
        adjustment=adjustment,
    )
    inverse = tuple(LETTERS[order.index(letter)] for letter in LETTERS)

    moved = reorder(record, order)

    assert unmovable(record) is None
    assert moved.text(moved.answer) == "2015年"
    assert moved.steps[1] == f"2015年（{moved.answer}）"
    assert "维生素C" in moved.think
    assert reorder(moved, inverse) == record


def test_a_draw_depends_on_seed_and_id_alone():
    records = many_records(40)
    first = balance(records, PARAMS).records

    assert balance(records, PARAMS).records == first
    assert balance(records, BalanceParams(seed=8)).records != first
    backwards = balance(records[::-1], PARAMS).records[::-1]
    assert backwards == first


def test_no_rows_are_no_rows():
    assert metrics([], balance([], PARAMS))["records"] == 0


def test_a_record_in_four_orders_has_its_answer_once_at_each_letter():
    record = a_record()

    shown = orders(record, 4, seed=7)

    assert shown[0] == record
    assert sorted(other.answer for other in shown) == list("ABCD")
    assert {other.text(other.answer) for other in shown} == {record.text(record.answer)}
    assert {tuple(sorted(other.options)) for other in shown} == {tuple(sorted(record.options))}


def test_a_record_that_may_not_be_moved_is_shown_as_it_is():
    record = a_record(think="A国先加入。")

    assert orders(record, 4, seed=7) == [record]


def test_steps_that_take_the_options_in_turn_still_do():
    record = a_record(steps=("逐项看", "2012年（A）", "2015年（B）", "2016年（C）", "2018年（D）", "所以是2015年（B）"))

    for shown in orders(record, 4, seed=7):
        looked = [f"{text}（{letter}）" for letter, text in zip("ABCD", shown.options, strict=True)]
        assert shown.steps == ("逐项看", *looked, f"所以是2015年（{shown.answer}）")
