import pytest
from click.testing import CliRunner

from schemas.faults import Fault
from train import compare
from train.score import Key, ScoreParams, Variant, is_public, paired, read_variant, score

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


def test_the_table_shows_every_variant_and_every_pair():
    shown = compare.table(score(some_keys(), [a_variant("plain", 2), a_variant("reasoning", 9)], PARAMS))

    assert "plain" in shown
    assert "0.900" in shown
    assert "reasoning against plain: +0.700" in shown


def test_a_submission_is_read_from_its_folder_or_alone(tmp_path):
    (tmp_path / "submission.csv").write_text("id,answer\n1,A\n")

    assert read_variant(f"x={tmp_path}", ["1"]).responses == []
    (tmp_path / "detailed_results.csv").write_text("id,response\n1,<output>A</output>\n")
    assert read_variant(f"x={tmp_path / 'submission.csv'}", ["1"]).responses == ["<output>A</output>"]


def test_a_variant_without_a_name_is_refused():
    with pytest.raises(Fault, match="NAME=PATH"):
        read_variant("submissions/plain", ["1"])


def test_compare_says_who_writes_the_missing_file(tmp_path):
    shown = CliRunner().invoke(compare.main, [str(tmp_path / "score.json")])

    assert shown.exit_code == 1
    assert "dvc repro" in shown.output
