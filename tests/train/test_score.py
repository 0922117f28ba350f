import json

import msgspec
import pytest
from click.testing import CliRunner

from schemas.faults import Fault
from train.score import (
    Key,
    Pair,
    ScoreParams,
    Variant,
    holm,
    is_public,
    main,
    paired,
    read_key,
    read_variant,
    said,
    score,
)

PARAMS = ScoreParams(public=0.3, seed=7)


def some_keys(n=10):
    return [Key(id=str(i), answer="A", topic=f"t{i % 2}", difficulty="basic", type="factual") for i in range(n)]


def a_variant(name, right, n=10):
    return Variant(name=name, answers={str(i): "A" if i < right else "B" for i in range(n)}, responses=["可能", "A"])


def test_every_variant_is_counted_whole_and_in_parts():
    figures = score(some_keys(), [a_variant("plain", 4)], PARAMS)["variants"]["plain"]

    assert (figures["n"], figures["accuracy"]) == (10, 0.4)
    assert figures["by_topic"]["t0"]["n"] == 5
    assert sum(part["n"] for part in figures["by_part"].values()) == 10
    assert figures["answers"] == {"A": 4, "B": 6, "C": 0, "D": 0}
    assert figures["neutrality"] == 0.75


def test_the_public_part_depends_on_the_id_and_seed_alone():
    ids = [str(n) for n in range(4000)]

    first = [is_public(id, PARAMS) for id in ids]

    assert first == [is_public(id, PARAMS) for id in ids]
    assert first != [is_public(id, ScoreParams(public=0.3, seed=8)) for id in ids]
    assert sum(first) / len(ids) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("a", "b", "difference", "p"),
    [(4, 4, 0.0, 1.0), (0, 10, 1.0, 0.00195), (10, 0, -1.0, 0.00195), (4, 5, 0.1, 1.0)],
)
def test_two_variants_are_compared_question_by_question(a, b, difference, p):
    found = paired(some_keys(), a_variant("a", a), a_variant("b", b))

    assert found["difference"] == difference
    assert found["mcnemar_p"] == p
    assert found["interval95"][0] <= difference <= found["interval95"][1]


def test_two_variants_that_never_differ_are_not_surely_the_same():
    found = paired(some_keys(), a_variant("a", 4), a_variant("b", 4))

    low, high = found["interval95"]
    assert low == -high < 0


@pytest.mark.parametrize(
    ("values", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_the_more_variants_are_compared_the_more_a_difference_must_be(values, adjusted):
    assert holm(values) == pytest.approx(adjusted)


def test_every_pair_is_told_with_both_p():
    figures = score(some_keys(), [a_variant("plain", 2), a_variant("reasoning", 9), a_variant("grpo", 9)], PARAMS)

    lines = list(said(msgspec.convert(figures["pairs"], list[Pair])))

    assert lines[0].startswith("reasoning against plain: +0.700 [")
    assert lines[0].endswith("McNemar p = 0.0156, Holm 0.0468")
    assert [line.partition(":")[0] for line in lines[1:]] == ["grpo against plain", "grpo against reasoning"]


def test_a_submission_is_read_from_its_folder_or_alone(tmp_path):
    (tmp_path / "submission.csv").write_text("id,answer\n1,A\n")

    assert read_variant(f"x={tmp_path}", ["1"]).responses == []
    (tmp_path / "detailed_results.csv").write_text("id,response\n1,<output>A</output>\n")
    assert read_variant(f"x={tmp_path / 'submission.csv'}", ["1"]).responses == ["<output>A</output>"]


def test_a_variant_without_a_name_is_refused():
    with pytest.raises(Fault, match="NAME=PATH"):
        read_variant("submissions/plain", ["1"])


def a_key(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_key_need_not_say_where_a_question_belongs(tmp_path):
    path = a_key(tmp_path / "key.csv", "id,answer,topic\n1,A,history\n2,B,\n")

    keys = read_key(path)
    figures = score(keys, [Variant("x", {"1": "A", "2": "C"}, ())], PARAMS)["variants"]["x"]

    assert keys == [Key("1", "A", "history", "", ""), Key("2", "B", "", "", "")]
    assert {name: of["n"] for name, of in figures["by_topic"].items()} == {"history": 1}
    assert figures["by_type"] == {}


def test_a_letter_out_of_a_to_d_in_the_key_is_told_by_its_row(tmp_path):
    path = a_key(tmp_path / "key.csv", "id,answer\n1,A\n2,E\n3,b\n")

    with pytest.raises(Fault) as fault:
        read_key(path)

    assert fault.value.message.splitlines() == [
        f"{path}:3: id '2': answer 'E' is not one of A, B, C, D",
        f"{path}:4: id '3': answer 'b' is not one of A, B, C, D",
    ]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (None, "key.csv is not there"),
        ("id,topic\n1,history\n", "key.csv has no answers"),
        ("id,answer,topic,difficulty,type\n", "key.csv has no answers"),
    ],
)
def test_without_a_key_nothing_is_scored_and_that_is_said(project, tmp_path, key, why):
    path = tmp_path / "key.csv"
    if key is not None:
        path.write_text(key)
    (tmp_path / "submission.csv").write_text("id,answer\n1,A\n2,A\n")

    done = CliRunner().invoke(main, [str(path), str(tmp_path / "score.json"), f"plain={tmp_path}"])

    figures = json.loads((tmp_path / "score.json").read_text())
    assert done.output == f"score: {tmp_path / why}: nothing is scored; 1 variants have handed in\n"
    assert (figures["n"], figures["variants"], figures["no_key"]) == (0, {}, str(tmp_path / why))
    assert figures["handed_in"]["plain"]["answers"] == {"A": 2, "B": 0, "C": 0, "D": 0}


def test_a_key_may_hold_fewer_questions_than_were_asked(project, tmp_path):
    a_key(tmp_path / "key.csv", "id,answer\n2,B\n")
    (tmp_path / "submission.csv").write_text("id,answer\n1,A\n2,B\n")

    main.callback(tmp_path / "key.csv", tmp_path / "score.json", (f"plain={tmp_path}",))

    assert json.loads((tmp_path / "score.json").read_text())["variants"]["plain"]["accuracy"] == 1.0
