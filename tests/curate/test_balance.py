import json
from collections import Counter
from functools import partial
from itertools import permutations
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from curate.balance import STAY, BalanceParams, level, main, orders, plan, reorder, seen, unmovable
from curate.shards import chunks
from schemas.record import LETTERS, Record, Reject
from schemas.rows import read, write
from tests.curate.builders import a_record, configure, many_records

PARAMS = BalanceParams(cell=None, seed=7)
FIXED = "A国先加入。"  # a letter that may or may not name an option


@pytest.fixture(autouse=True)
def in_a_project(a_project, monkeypatch):
    monkeypatch.chdir(a_project)


def balance(records: list[Record], **params: object) -> list[Record]:
    """Run the stage; return what it kept."""
    configure("balance", **({"cell": None, "seed": 7} | params))
    write("in.jsonl", records)
    done = CliRunner().invoke(main, ["in.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return list(read("out.jsonl", Record))


def metrics() -> dict:
    return json.loads(Path("metrics.json").read_bytes())


def letters(records: list[Record]) -> Counter[str]:
    return Counter(record.answer for record in records)


def planned(records: list[Record], params: BalanceParams = PARAMS) -> dict[str, int]:
    """What is to become of each record."""
    return dict(
        zip((record.id for record in records), plan([seen(records, params.seed)], params).moves[0], strict=True)
    )


def some_records(count: int, random: Random, fixed: float = 0.1) -> list[Record]:
    """Records of five topics of unequal size, some of them unmovable and all of those answered A."""
    return [
        a_record(
            id=f"{n}:{random.random()}",
            topic=f"topic_{int(5 * random.random() ** 2)}",
            type=random.choice(("factual", "conceptual")),
            **({"think": FIXED, "answer": "A"} if random.random() < fixed else {}),
        )
        for n in range(count)
    ]


def test_letters_come_out_even_overall_and_in_each_topic():
    balance(many_records(401))

    numbers = metrics()
    assert numbers["letters_before"] == {"A": 401, "B": 0, "C": 0, "D": 0}
    for counts in (numbers["letters"], *numbers["topics"].values()):
        assert max(counts.values()) - min(counts.values()) <= 1
    assert numbers["uneven"] <= 0.01


def test_what_is_counted_is_what_is_written():
    records = some_records(300, Random(1))

    after = balance(records)

    numbers = metrics()
    assert numbers["letters"] == {letter: letters(after)[letter] for letter in LETTERS}
    for topic, counts in numbers["topics"].items():
        in_topic = letters([record for record in after if record.topic == topic])
        assert counts == {letter: in_topic[letter] for letter in LETTERS}
    assert numbers["letters_before"] == {letter: letters(records)[letter] for letter in LETTERS}
    assert numbers["kept"] == numbers["moved"] + numbers["unchanged"]["letter_unclear"] == 300


@pytest.mark.parametrize("count", [40, 400, 1001])
def test_letters_are_even_within_a_hundredth_wherever_the_movable_records_allow_it(count):
    for seed in range(5):
        records = some_records(count, Random(seed), fixed=0.2)

        balance(records)

        counts = metrics()["letters"].values()
        assert max(counts) - min(counts) <= 1
        assert metrics()["uneven"] <= max(0.01, 4 / count)


def test_english_letters_are_even_too():
    records = [
        a_record(
            id=str(n),
            question=f"In which year was resolution {n} of the council adopted?",
            options=("A treaty of 1912", "A later treaty", "The charter", "No text at all"),
            think="A resolution is adopted by vote. A closer look at the record helps.",
            steps=(f"Resolution {n} follows a treaty.", "Option B and option C are too late.", "The answer is A."),
            reflection="Option D's wording is too strong. A and D are consistent with nothing else.",
            answer="A",
        )
        for n in range(203)
    ]

    after = balance(records)

    assert metrics()["unchanged"] == {}
    assert sorted(letters(after).values()) == [50, 51, 51, 51]
    assert all(record.steps[-1] == f"The answer is {record.answer}." for record in after)
    assert {record.text(record.answer) for record in after} == {"A treaty of 1912"}


def test_rows_keep_their_order_their_right_text_and_their_options():
    before = many_records(60)

    after = balance(before)

    for old, new in zip(before, after, strict=True):
        assert new.id == old.id
        assert new.text(new.answer) == old.text(old.answer)
        assert sorted(new.options) == sorted(old.options)
        assert new.steps[-1] == f"因此选项{new.answer}正确。"


def test_distractors_are_shuffled_too():
    found = {
        tuple(option for option in record.options if option != record.text(record.answer))
        for record in balance([a_record(id=str(n)) for n in range(100)])
    }

    assert found == set(permutations(("2012年", "2016年", "2018年")))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": ("2012年", "2015年", "2016年", "以上都不是")}, "option_names_others"),
        ({"options": ("2012年", "2015年", "2016年", "以上都不對")}, "option_names_others"),
        ({"options": ("2012年", "2015年", "2016年", "A和C")}, "option_names_others"),
        ({"options": ("2012年", "2015年", "2016年", "All of the above")}, "option_names_others"),
        ({"question": "A国于哪一年加入《巴黎协定》？"}, "letter_in_question"),
        ({"think": "A国先加入。"}, "letter_unclear"),
        ({"reflection": "第二个选项最合适。"}, "letter_unclear"),
        ({"reflection": "第二個選項最合適。"}, "letter_unclear"),
        ({"reflection": "甲项最合适。"}, "letter_unclear"),
        ({"adjustment": "改选C类。"}, "letter_unclear"),
    ],
)
def test_a_record_that_may_not_be_moved_stays_as_it_was_and_is_counted(changes, reason):
    line = msgspec.json.encode(a_record(**changes)).replace(b'":', b'" : ')
    Path("in.jsonl").write_bytes(line)

    CliRunner().invoke(main, ["in.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json"], catch_exceptions=False)

    assert Path("out.jsonl").read_bytes() == line + b"\n"
    assert metrics()["unchanged"] == {reason: 1}


@pytest.mark.parametrize("option", ["三分之二以上", "18岁以上", "10万人以上"])
def test_a_number_and_more_does_not_speak_of_other_options(option):
    assert unmovable(a_record(options=("2012年", "2015年", "2016年", option))) is None


def test_movable_records_make_up_for_the_unmovable():
    fixed = [a_record(id=f"f{n}", think=FIXED, answer="B") for n in range(20)]
    free = [a_record(id=f"m{n}") for n in range(60)]

    assert letters(balance([*fixed, *free])) == dict.fromkeys(LETTERS, 20)


def test_other_topics_make_up_for_one_that_cannot():
    fixed = [a_record(id=f"f{n}", think=FIXED, answer="B", topic="fixed") for n in range(100)]
    free = [a_record(id=f"m{n}", topic=f"free_{n % 3}") for n in range(900)]

    after = balance([*fixed, *free])

    assert letters(after) == dict.fromkeys(LETTERS, 250)
    for topic in ("free_0", "free_1", "free_2"):
        assert min(letters([record for record in after if record.topic == topic]).values()) >= 45


def test_all_records_may_be_unmovable():
    records = [a_record(id=str(n), think=FIXED) for n in range(9)]

    assert balance(records) == records
    assert metrics()["moved"] == 0


@pytest.mark.parametrize(
    ("fixed", "free", "taken"),
    [
        ([[0, 0, 0, 0]], [8], [[2, 2, 2, 2]]),
        ([[5, 0, 0, 0]], [6], [[0, 2, 2, 2]]),
        ([[5, 1, 0, 0]], [11], [[0, 3, 4, 4]]),
        ([[9, 0, 0, 0]], [0], [[0, 0, 0, 0]]),
        ([[2, 0, 0, 0], [0, 0, 0, 0]], [0, 6], [[0, 0, 0, 0], [0, 2, 2, 2]]),
    ],
)
def test_letters_that_have_least_take_most(fixed, free, taken):
    assert level(np.array(fixed), np.array(free), [3, 5][: len(free)]).tolist() == taken


def test_what_topics_have_left_over_is_levelled_between_them():
    random = Random(3)
    for _ in range(50):
        topics = random.randint(1, 20)
        fixed = np.array([[random.choice((0, 0, 1)) for _ in LETTERS] for _ in range(topics)])
        free = np.array([random.randint(4, 30) for _ in range(topics)])

        taken = level(fixed, free, [random.getrandbits(64) for _ in range(topics)])

        assert (taken >= 0).all()
        assert taken.sum(axis=1).tolist() == free.tolist()
        assert np.ptp((fixed + taken).sum(axis=0)) <= 1
        assert (np.ptp(fixed + taken, axis=1) <= 1).all()


@pytest.mark.parametrize("fixed", [0.0, 0.1])
def test_a_row_more_changes_the_letters_of_a_handful(fixed):
    changed = []
    for seed in range(25):
        random = Random(seed)
        records = some_records(1001, random, fixed)
        without = planned(records[:-1])

        with_it = planned(records)

        changed.append(sum(with_it[id_] != move for id_, move in without.items()))
    assert max(changed) <= 10
    assert sum(changed) / len(changed) <= 4


def test_a_cell_holds_no_more_than_its_bound():
    records = some_records(200, Random(2))
    cell = {record.id: (record.topic, record.type) for record in records}

    after = balance(records, cell=12)

    sizes = Counter(cell[record.id] for record in after)
    rejects = list(read("rejects.jsonl", Reject))
    assert sizes == {name: min(count, 12) for name, count in Counter(cell.values()).items()}
    assert {(reject.stage, reject.reason, reject.kept) for reject in rejects} == {("balance", "cell_full", None)}
    assert rejects[0].detail.endswith(" has 12 records without it")
    assert {reject.raw.encode() for reject in rejects} <= set(Path("in.jsonl").read_bytes().splitlines())
    assert {record.id for record in after} | {reject.id for reject in rejects} == set(cell)
    numbers = metrics()
    assert numbers["rejected"] == {"cell_full": len(rejects)}
    assert numbers["cells"] == {
        "count": len(sizes),
        "smallest": min(sizes.values()),
        "median": float(np.median(list(sizes.values()))),
        "largest": 12,
    }


def test_a_row_more_in_a_full_cell_takes_the_place_of_one_at_most():
    records = [a_record(id=str(n)) for n in range(60)]
    bounded = BalanceParams(cell=20, seed=7)
    before = planned(records[:-1], bounded)

    after = planned(records, bounded)

    assert sum((before[id_] <= STAY) != (after[id_] <= STAY) for id_ in before) <= 1


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
    first = balance(records)

    assert balance(records[::-1])[::-1] == first
    assert balance(records, seed=8) != first


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_and_no_rows_pass(count):
    records = many_records(count)

    assert [record.id for record in balance(records)] == [record.id for record in records]
    assert metrics()["records"] == count


def test_the_bytes_do_not_depend_on_chunks_or_processes(monkeypatch):
    records = some_records(200, Random(4))

    def run(**workers: object) -> tuple[bytes, ...]:
        configure("workers", **workers)
        balance(records, cell=30)
        return tuple(Path(name).read_bytes() for name in ("out.jsonl", "rejects.jsonl", "metrics.json"))

    whole = run(processes=1)
    monkeypatch.setattr("curate.balance.chunks", partial(chunks, size=2000))

    assert run(processes=1) == whole
    assert run(processes=2) == whole


def test_a_bad_line_leaves_nothing_behind():
    Path("in.jsonl").write_bytes(msgspec.json.encode(a_record()) + b"\n{\n")

    done = CliRunner().invoke(main, ["in.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json"])

    assert (done.exit_code, done.output[:12]) == (1, "in.jsonl:2: ")
    assert not Path("out.jsonl").exists()


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
