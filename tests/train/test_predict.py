import json

import pytest

from schemas import rows
from schemas.record import Prediction
from train import model, predict, score, submission
from train.predict import Reply, kept, predictions


def test_answers_come_in_the_order_of_the_test_file_and_are_handed_in(trained):
    predict.main(
        ["reasoning", "models/reasoning", "data/test.csv", "p.jsonl", "metrics/predict.json"], standalone_mode=False
    )
    submission.main(["p.jsonl", "data/test.csv", "submissions/reasoning", "metrics/s.json"], standalone_mode=False)
    score.main(["data/key.csv", "metrics/score.json", "reasoning=submissions/reasoning"], standalone_mode=False)

    made = list(rows.read("p.jsonl", Prediction))
    assert [p.id for p in made] == [f"t{n}" for n in range(16)]
    assert json.loads((trained / "metrics/predict.json").read_text())["n"] == 16
    assert json.loads((trained / "metrics/score.json").read_text())["variants"]["reasoning"]["n"] == 16
    assert not list((trained / ".store/checkpoints/predict@reasoning").iterdir())


def test_an_interrupted_run_reuses_its_replies(trained, monkeypatch):
    arguments = ["reasoning", "models/reasoning", "data/test.csv", "p2.jsonl", "metrics/p2.json"]
    real = model.generate

    def stop_after_one(*args):
        yield next(real(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "generate", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        predict.main.callback(*arguments[:2], *map(trained.joinpath, arguments[2:]))
    monkeypatch.setattr(model, "generate", real)

    predict.main.callback(*arguments[:2], *map(trained.joinpath, arguments[2:]))

    assert json.loads((trained / "metrics/p2.json").read_text())["reused"] == 8
    predict.main(
        ["reasoning", "models/reasoning", "data/test.csv", "p3.jsonl", "metrics/p3.json"], standalone_mode=False
    )
    assert (trained / "p2.jsonl").read_bytes() == (trained / "p3.jsonl").read_bytes()


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    file = tmp_path / "replies.jsonl"
    file.write_bytes('{"vote":0,"index":1,"text":"B\u2028"}\n{"vote":0,"ind'.encode())

    assert kept(file) == [Reply(0, 1, "B\u2028")]
    assert file.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("texts", "answer"),
    [(["A", "B", "B"], "B"), (["C", "A"], "C"), (["不知道", "不知道", "D"], "D")],
)
def test_the_majority_of_the_letters_found_wins(texts, answer):
    made = predictions(["q"], [Reply(vote, 0, text) for vote, text in enumerate(texts)])

    assert [p.answer for p in made] == [answer]
    assert made[0].response == answer


def test_an_adapter_answers_on_its_base(project, changed):
    from train import sft

    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj"], "bias": "none"}
    changed({"sft": {"plain": {"lora": lora, "trainer": {**SHORT}}}})
    sets = ["data/sft.plain.train.jsonl", "data/sft.plain.validation.jsonl"]

    sft.main(["plain", *sets, "models/base", "models/plain", "metrics/x.json"], standalone_mode=False)
    predict.main(["plain", "models/plain", "data/test.csv", "p4.jsonl", "metrics/p4.json"], standalone_mode=False)

    assert len(list(rows.read("p4.jsonl", Prediction))) == 16


SHORT = {"max_steps": 1, "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_length": 160}
