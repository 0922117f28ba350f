import csv

import pytest

from schemas.faults import Fault
from schemas.record import Prediction
from train.submission import answers, questions, submission, table


def a_test_file(path, ids=("1", "2")):
    lines = ["id,question,option_A,option_B,option_C,option_D", *(f'{id},"问,题",甲,乙,丙,丁' for id in ids)]
    path.write_text("﻿" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def a_prediction(id, answer="B"):
    return Prediction(id=id, response="答案：B,\n因为", answer=answer, strategy="answer_phrase")


def test_both_files_follow_the_order_of_the_test_file(tmp_path):
    asked = questions(a_test_file(tmp_path / "test.csv"))

    figures = submission([a_prediction("2"), a_prediction("1", "D")], asked, tmp_path)

    assert (tmp_path / "submission.csv").read_text() == "id,answer\n1,D\n2,B\n"
    with open(tmp_path / "detailed_results.csv", encoding="utf-8", newline="") as file:
        detailed = list(csv.DictReader(file))
    assert detailed[0]["question"] == "问,题"
    assert detailed[0]["response"] == "答案：B,\n因为"
    assert figures == {
        "n": 2,
        "answers": {"A": 0, "B": 1, "C": 0, "D": 1},
        "strategies": {"answer_phrase": 2},
        "unanswered": 0,
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,answer\n1,A\n", "no answer for id '2'"),
        ("id,answer\n1,A\n2,B\n3,C\n", "the test file has no id '3'"),
        ("id,answer\n1,A\n2,E\n", "id '2': answer 'E'"),
        ("id,answer\n1,A\n2,\n", "id '2': answer ''"),
        ("id,answer\n1,A\n2,B\n2,C\n", "id '2' comes more than once"),
        ("id,letter\n1,A\n2,B\n", "no column answer"),
        ("id,answer\n1,A\n2\n", "row '2' is shorter"),
    ],
)
def test_a_submission_that_does_not_fit_is_refused_by_the_id(tmp_path, content, words):
    (tmp_path / "submission.csv").write_text(content)

    with pytest.raises(Fault, match=words):
        answers(tmp_path / "submission.csv", ["1", "2"])


@pytest.mark.parametrize("response", ["A\rB", "\r", '"', "a,b", "\u2028", "=1+1", " B "])
def test_a_reply_is_in_the_details_as_it_came(tmp_path, response):
    asked = questions(a_test_file(tmp_path / "test.csv", ids=["1"]))

    submission([Prediction(id="1", response=response, answer="B", strategy="none")], asked, tmp_path)

    assert [row["response"] for row in table(tmp_path / "detailed_results.csv", ["id", "response"])] == [response]


def test_a_missing_prediction_is_named(tmp_path):
    asked = questions(a_test_file(tmp_path / "test.csv"))

    with pytest.raises(Fault, match="no answer for id '2'"):
        submission([a_prediction("1")], asked, tmp_path)


def test_a_test_file_with_an_id_twice_is_refused(tmp_path):
    with pytest.raises(Fault, match="id '1' comes more than once"):
        questions(a_test_file(tmp_path / "test.csv", ["1", "1"]))
