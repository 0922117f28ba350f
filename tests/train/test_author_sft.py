import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas import rows
from schemas.faults import Fault
from schemas.record import Commission
from tests.train.conftest import MIX, run
from train import author_sft, watch
from train.author.quality import QUALITIES
from train.author.writing import Written

STAGE = (*MIX, "models/author_base", "models/author_again", "metrics/author_again.json")


def test_the_author_is_taught_and_what_it_writes_is_examined(author_trained):
    figures = json.loads(Path("metrics/author_sft.json").read_text())

    assert figures["steps"] == 6
    assert figures["rows"] == 64
    assert figures["eval_loss"] > 0
    assert figures["verdicts"].keys() == {"thinking", "at_once"}
    assert all(sum(shares.values()) == pytest.approx(1, abs=1e-3) for shares in figures["verdicts"].values())
    samples = list(rows.read("models/author_sft/samples.jsonl", Written))
    assert [one.thinking for one in samples] == [True] * 6 + [False] * 6


def test_the_loss_falls(author_trained):
    curve = [json.loads(line) for line in Path("models/author_sft/curve.jsonl").read_text().splitlines()]

    losses = [line["loss"] for line in curve if "loss" in line]
    assert losses[-1] < losses[0] - 0.4


def test_the_fixed_commissions_are_given_again_and_again_with_thinking_and_without(author_trained):
    replies = list(rows.read("models/author_sft/checkpoints.jsonl", watch.Reply))

    assert {reply.step for reply in replies} == {0, 3, 6}
    assert len(replies) == 3 * 2 * 2 * 2
    assert {reply.id for reply in replies if "advanced" in reply.id} == {
        f"algebra/advanced/factual/{way}/{n}" for way in ("thinking", "at once") for n in range(2)
    }


def test_their_qualities_are_measured(author_trained):
    replies = rows.read("models/author_sft/checkpoints.jsonl", watch.Reply)

    assert {tuple(reply.qualities) for reply in replies} == {tuple(QUALITIES)}


def test_watching_changes_no_byte_of_what_is_trained(author_trained, changed):
    changed({"author_sft": {"watch": {"questions": 0, "every": 3}}})

    run(author_sft.main, *MIX, "models/author_base", "models/unwatched", "metrics/unwatched.json")

    for name in ("model.safetensors", "curve.jsonl", "samples.jsonl"):
        assert Path("models/unwatched", name).read_bytes() == Path("models/author_sft", name).read_bytes()
    assert Path("models/unwatched", watch.REPLIES).read_bytes() == b""


def test_nothing_is_left_of_the_workplace(author_trained):
    assert not list((author_trained / ".store/checkpoints/author_sft").iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fixed": ["algebra/basic/factul"]}, "author_sft.fixed: no commission 'algebra/basic/factul'; did you mean"),
        ({"thinking": []}, r"author_sft.thinking: \[\]; take true, false or both"),
        ({"trainer": {"learnin_rate": 1}}, "author_sft.trainer.learnin_rate: .*did you mean 'learning_rate'"),
        ({"model": "models/nowhere"}, "models/nowhere: no such folder"),
    ],
)
def test_what_is_wrong_is_said_before_training(author_project, changed, change, said):
    changed({"author_sft": change})

    with pytest.raises(Fault, match=said):
        run(author_sft.main, *STAGE)
    assert not Path("models/author_again").exists()


def test_a_template_that_cannot_turn_thinking_off_is_refused_where_both_are_asked_for(
    author_project, tmp_path, changed
):
    import shutil

    shutil.copytree("models/author_base", tmp_path / "base")
    template = tmp_path / "base/chat_template.jinja"
    template.write_text(template.read_text().replace("enable_thinking", "x"))

    with pytest.raises(
        Fault, match=r"author_sft\.thinking: both, but the model's chat template knows no enable_thinking"
    ):
        run(author_sft.main, *MIX, tmp_path / "base", "models/author_again", "metrics/author_again.json")


def test_a_difficulty_of_which_nothing_is_known_is_not_watched(author_project, changed, tmp_path):
    one = next(rows.read(MIX[2], Commission))
    rows.write(tmp_path / "prompts.jsonl", [replace(one, id="new", difficulty="olympic")])
    changed({"author_sft": {"fixed": ["new"]}})

    with pytest.raises(Fault, match=r"olympic: no such difficulty in train\.author\.quality\.LEVELS"):
        run(author_sft.main, *MIX[:2], tmp_path / "prompts.jsonl", *STAGE[3:])


def test_no_commissions_are_a_fault(author_project, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("")

    with pytest.raises(Fault, match="no rows to write for"):
        run(author_sft.main, *MIX[:2], tmp_path / "prompts.jsonl", *STAGE[3:])
