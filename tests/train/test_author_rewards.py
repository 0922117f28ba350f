import json

import pytest
from click.testing import CliRunner

from schemas.record import Example, Message
from schemas.rows import write
from tests.train.author.written import GOOD, a_reply, an_item
from train import author_rewards
from train.author.quality import QUALITIES

PARAMS = "author_grpo: {qualities: {difficulty: 0.4, novelty: 0.3, rigor: 0.2, diversity: 0.1}}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS, "utf-8")
    return tmp_path


def run(folder, *lines, options=()):
    (folder / "given.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return CliRunner().invoke(author_rewards.main, ["given.jsonl", *options])


def test_each_reply_has_a_line_with_its_verdict_its_qualities_and_their_weighted_total(folder):
    out = run(
        folder,
        {"id": "q1", "difficulty": "basic", "response": a_reply()},
        {"id": "q2", "difficulty": "basic", "response": a_reply(an_item(answer="A"))},
        {"id": "q3", "difficulty": "basic", "response": "好的。"},
    ).output.splitlines()

    assert out[0].split() == ["id", "verdict", "why", *QUALITIES, "total", "question"]
    assert out[1].split()[:3] == ["q1", "confirmed", "-"]
    assert out[1].endswith(GOOD.question)
    assert out[2].split()[:8] == ["q2", "refuted", "another_right_option", "0.000", "0.000", "0.700", "0.000", "0.140"]
    assert out[3].split()[:3] == ["q3", "malformed", "not_xml"]
    assert out[5] == "weights: difficulty 0.4, novelty 0.3, rigor 0.2, diversity 0.1"


def test_the_samples_of_an_author_are_read_as_they_are(folder):
    out = run(folder, {"id": "algebra/basic/factual", "thinking": True, "reply": a_reply(), "verdict": "confirmed"})

    assert out.output.splitlines()[1].split()[:2] == ["algebra/basic/factual", "confirmed"]


def test_what_was_taught_is_new_no_more(folder):
    turn = Message(role="assistant", content=a_reply())
    write(folder / "chats.jsonl", [Example(id="a", messages=(Message(role="user", content="?"), turn))])
    line = {"id": "q", "response": a_reply()}
    options = ("--difficulty", "basic", "--json")

    new, old = (
        json.loads(run(folder, line, options=(*options, *more)).output)["qualities"]["novelty"]
        for more in ((), ("--taught", "chats.jsonl"))
    )

    assert (new, old) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "q", "response": "x"}, "given.jsonl:1: no difficulty; put the one asked for under 'difficulty'"),
        ({"response": "x", "difficulty": "bsic"}, "given.jsonl:1: difficulty 'bsic': did you mean basic?"),
        ({"difficulty": "basic"}, "given.jsonl:1: no text; put the reply under 'response'"),
    ],
)
def test_a_bad_line_is_named(folder, line, said):
    out = run(folder, line)

    assert out.exit_code == 1
    assert said in out.output


def test_an_empty_file_or_an_unknown_quality_is_named(folder):
    empty = run(folder)
    (folder / "params.yaml").write_text(PARAMS.replace("novelty", "novlty"), "utf-8")

    assert "given.jsonl: empty; it needs a line for each reply" in empty.output
    assert "author_grpo.qualities.novlty: no such quality; did you mean novelty?" in run(folder).output
