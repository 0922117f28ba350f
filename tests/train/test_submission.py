import csv

import pytest
from click.testing import CliRunner

from schemas.faults import Fault
from schemas.record import Prediction
from train.submission import answers, main, questions, submission, table


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
        ("id,answer\n1,A\n", "submission.csv: id '2': no answer for it"),
        ("id,answer\n1,A\n2,B\n3,C\n", "submission.csv:4: id '3': the test file has no such id"),
        ("id,answer\n1,A\n 2 ,B\n", "submission.csv:3: id ' 2 ': the test file has no such id; it has '2'"),
        ("id,answer\n1,A\n2,E\n", "submission.csv:3: id '2': answer 'E' is not one of A, B, C, D"),
        ("id,answer\n1,A\n2,\n", "submission.csv:3: id '2': answer '' is not one of A, B, C, D"),
        ("id,answer\n1,A\n2,b\n", "submission.csv:3: id '2': answer 'b' is not one of A, B, C, D; write B"),
        ("id,answer\n1,A\n2,Ｂ\n", "submission.csv:3: id '2': answer 'Ｂ' is not one of A, B, C, D; write B"),
        ("id,answer\n1,A\n2, B\n", "submission.csv:3: id '2': answer ' B' is not one of A, B, C, D; write B"),
        ("id,answer\n1,A\n2,B\n2,C\n", "submission.csv:4: id '2': comes more than once, first in line 3"),
        ("id,answer\n1,A\n2\n", "submission.csv:3: id '2': fewer cells (1) than the header (2)"),
        ("id,answer\n1,A\n2,B,C\n", "submission.csv:3: id '2': more cells (3) than the header (2); text with a comma"),
        ("id,answer\n1,A\n,B\n", "submission.csv:3: id '': no id"),
        ("id,letter\n1,A\n2,B\n", "submission.csv: no column answer; it needs id, answer"),
        ("id,answer,answer\n1,A,B\n", "submission.csv: column 'answer' comes more than once; remove one"),
        ("id;answer\n1;A\n", "submission.csv: its columns are divided by ';'; save it with commas"),
        ("", "submission.csv: the file is empty"),
        ("\n\n", "submission.csv: the file is empty"),
        ("id,answer\n", "submission.csv: no rows under the header"),
        ('id,answer\n1,A\n2,"B\n', "submission.csv:3: unexpected end of data; is a quote missing, or one too many?"),
        ("id,answer\n1,A\n2,\0B\n", "submission.csv:3: a NUL character; the file is cut or no text"),
        ("id,answer\n1,A\n2,乙\n".encode("gbk"), "submission.csv:3: byte 0xd2 is not UTF-8; save the file as UTF-8"),
        ("id,answer\n1,A\n".encode("utf-16"), "submission.csv: it is UTF-16; save it as UTF-8"),
    ],
)
def test_a_submission_that_does_not_fit_is_refused_by_the_row(tmp_path, content, words):
    path = tmp_path / "submission.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(Fault) as fault:
        answers(path, ["1", "2"])

    assert fault.value.message.startswith(str(tmp_path / words))
    assert "\n" not in fault.value.message


@pytest.mark.parametrize(
    "content",
    [
        "id,answer\n1,A\n2,B\n",
        "\ufeffid,answer\r\n1,A\r\n2,B\r\n",
        'answer,note,"id"\n"A","x, y",1\n\nB,,2',
        "id,answer\r1,A\r2,B",
    ],
)
def test_a_submission_may_be_written_as_csv_allows(tmp_path, content):
    (tmp_path / "submission.csv").write_bytes(content.encode())

    assert answers(tmp_path / "submission.csv", ["1", "2"]) == {"1": "A", "2": "B"}


def test_every_wrong_row_is_told_the_first_twenty_by_line(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,answer\n" + "".join(f"{n},x\n" for n in range(30)))

    with pytest.raises(Fault) as fault:
        answers(path, [str(n) for n in range(31)])

    lines = fault.value.message.splitlines()
    assert lines[0] == f"{path}:2: id '0': answer 'x' is not one of A, B, C, D"
    assert len(lines) == 21
    assert lines[-1] == "… and 11 more"


def test_a_submission_may_answer_more_than_the_key_asks(tmp_path):
    (tmp_path / "submission.csv").write_text("id,answer\n1,A\n2,B\n")

    assert answers(tmp_path / "submission.csv", ["2"], others=True) == {"1": "A", "2": "B"}


@pytest.mark.parametrize("response", ["A\rB", "\r", '"', "a,b", "\u2028", "=1+1", " B "])
def test_a_reply_is_in_the_details_as_it_came(tmp_path, response):
    asked = questions(a_test_file(tmp_path / "test.csv", ids=["1"]))

    submission([Prediction(id="1", response=response, answer="B", strategy="none")], asked, tmp_path)

    (line,) = table(tmp_path / "detailed_results.csv", ["id", "response"])
    assert line.cells["response"] == response


def test_a_nul_that_a_model_wrote_is_shown_as_a_sign_that_tables_can_hold(tmp_path):
    asked = questions(a_test_file(tmp_path / "test.csv", ids=["1"]))

    submission([Prediction(id="1", response="B\0。", answer="B", strategy="none")], asked, tmp_path)

    (line,) = table(tmp_path / "detailed_results.csv", ["id", "response"])
    assert line.cells["response"] == "B\ufffd。"


def test_a_missing_prediction_is_named(tmp_path):
    asked = questions(a_test_file(tmp_path / "test.csv"))

    with pytest.raises(Fault, match="id '2': no answer for it"):
        submission([a_prediction("1")], asked, tmp_path)


def test_a_test_file_with_an_id_twice_is_refused(tmp_path):
    with pytest.raises(Fault, match=":3: id '1': comes more than once, first in line 2"):
        questions(a_test_file(tmp_path / "test.csv", ["1", "1"]))


def test_a_test_file_with_an_empty_option_is_refused_by_the_row(tmp_path):
    (tmp_path / "test.csv").write_text("id,question,option_A,option_B,option_C,option_D\n1,问,甲,,丙, \n")

    with pytest.raises(Fault) as fault:
        questions(tmp_path / "test.csv")

    assert [line.partition(": ")[2] for line in fault.value.message.splitlines()] == [
        "id '1': option_B is empty",
        "id '1': option_D is empty",
    ]


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("id,answer\n2,B\n1,A\n", 0, "fits"),
        ("id,answer\n1,a\n2,b\n", 1, "answer 'b' is not one of A, B, C, D; write B"),
    ],
)
def test_a_submission_edited_by_hand_can_be_looked_at(tmp_path, given, code, words):
    (tmp_path / "submission.csv").write_text(given)
    test = a_test_file(tmp_path / "test.csv")
    before = sorted(tmp_path.iterdir())

    done = CliRunner().invoke(main, ["--check", str(tmp_path / "submission.csv"), str(test)])

    assert done.exit_code == code
    assert words in done.output
    assert sorted(tmp_path.iterdir()) == before


def test_without_check_it_needs_where_to_write(tmp_path):
    done = CliRunner().invoke(main, ["predictions.jsonl", str(a_test_file(tmp_path / "test.csv"))])

    assert done.exit_code == 2
    assert "OUT and METRICS are needed" in done.output
