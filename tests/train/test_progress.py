import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from schemas import rows
from schemas.faults import Fault
from tests.browser import browser, complaints, look, overflows, requests_of, screenshot
from train import grpo, progress, watch
from train.workplace import running

ROOT = Path(__file__).parents[2]
QUESTIONS = [
    watch.Watched(id=f"q{n}", question=f"请答。\n问题：第{n}号条约？\n选项：甲（A）", reference="A") for n in (1, 2)
]


def replies(*steps, kl=None):
    """Both questions at each step; the first is right from step 10 on, the second never."""
    return [
        watch.Reply(step=step, id=q.id, reply="<step>甲</step>", right=q.id == "q1" and step >= 10, kl=kl)
        for step in steps
        for q in QUESTIONS
    ]


def commissioned(*steps):
    """What an author wrote for both at each step: the first becomes a new question, the second never is one."""
    return [
        structs.replace(
            one, qualities={"difficulty": 0.5 * one.right, "novelty": 0.25 * one.right, "rigor": 0.1 + one.right / 2}
        )
        for one in replies(*steps)
    ]


def a_training(name="plain", **values):
    given = progress.Training(
        name=name,
        state="done",
        of=20,
        curve={"loss": ((5.0, 2.0), (20.0, 0.5)), "eval_loss": ((20.0, 0.6),)},
        gaps={},
        questions=QUESTIONS,
        replies=replies(0, 10, 20),
        run=None,
        metrics=None,
    )
    return structs.replace(given, **values)


def a_place(folder, stage="sft@plain", log=("",), torn=""):
    """A workplace with a log, as a training leaves it that was killed or goes on."""
    place = folder / progress.PLACES / stage / "0123456789abcdef"
    place.mkdir(parents=True)
    (place / watch.LOG).write_text("".join(f"{line}\n" for line in log) + torn)
    rows.write(place / watch.QUESTIONS, QUESTIONS)
    rows.write(place / watch.REPLIES, replies(0))
    return place


def test_answers_are_counted_step_by_step():
    first, middle, last = progress.answered(replies(0, 10, 20, kl=0.5))

    assert [(at.step, at.right, at.n) for at in (first, middle, last)] == [(0, 0, 2), (10, 1, 2), (20, 1, 2)]
    assert last.share == 0.5
    assert last.low < 0.5 < last.high
    assert last.kl == 0.5


def test_the_qualities_of_an_authors_questions_are_averaged_step_by_step_and_answers_have_none():
    seen = progress.answered([*replies(0), *commissioned(5, 10)])

    assert progress.qualities(seen) == {
        "difficulty": ((5.0, 0.0), (10.0, 0.25)),
        "novelty": ((5.0, 0.0), (10.0, 0.125)),
        "rigor": ((5.0, 0.1), (10.0, 0.35)),
    }
    assert progress.qualities(progress.answered(replies(0, 10))) == {}


def test_a_log_becomes_curves_and_what_is_no_number_is_told_apart():
    lines = [b'{"step": 2, "loss": 1.0, "epoch": 0.1}', b'{"step": 4, "loss": NaN}', b'{"step": 4, "eval_loss": 2}']

    curve, gaps = progress.curves(lines, Path("log.jsonl"))

    assert curve == {"loss": ((2.0, 1.0),), "eval_loss": ((4.0, 2.0),)}
    assert gaps == {"loss": (4,)}


@pytest.mark.parametrize("line", [b"{", b"[1]", b'{"loss": 1}', b'{"step": "x"}', b"", b"\xff"])
def test_a_line_that_is_no_log_is_named(line):
    with pytest.raises(Fault, match=r"curve\.jsonl:2: .*not a line of a training's log"):
        progress.curves([b'{"step": 1}', line], Path("curve.jsonl"))


def test_a_csv_has_a_row_for_each_step_and_nan_for_what_was_not_measured():
    one = a_training(
        curve={"loss": ((10.0, 2.0),), "reward": ((20.0, 0.25),), "rewards/correct/mean": ((20.0, 0.125),)},
        replies=replies(0, 20, kl=0.5),
    )

    assert progress.csv(one).splitlines() == [
        "step,loss,eval_loss,accuracy,reward,correct,kl_from_start",
        "0,NaN,NaN,0.0,NaN,NaN,0.5",
        "10,2.0,NaN,NaN,NaN,NaN,NaN",
        "20,NaN,NaN,0.5,0.25,0.125,0.5",
    ]


def test_what_an_author_wrote_is_drawn_beside_what_was_right_of_it_and_told_apart_from_its_rewards():
    curve = {"rewards/novelty/mean": ((10.0, 0.75),)}
    training = a_training("author_grpo", curve=curve, replies=commissioned(0, 10))

    csv, page = progress.csv(training), progress.written([training])

    assert csv.splitlines() == [
        "step,loss,eval_loss,accuracy,novelty,watched_difficulty,watched_novelty,watched_rigor",
        "0,NaN,NaN,0.0,NaN,0.0,0.0,0.1",
        "10,NaN,NaN,0.5,0.75,0.25,0.125,0.35",
    ]
    assert page.index("Right answers") < page.index(">Qualities<") < page.index("Parts of the reward")
    assert "same 2 commissions" in page
    assert "the right letter" not in page
    assert ">Qualities<" not in progress.written([a_training()])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"gaps": {"loss": (3, 4)}}, "loss is not a number at step 3, 4."),
        (
            {"curve": {"eval_loss": ((5.0, 1.0), (9.0, 1.2))}},
            "The validation loss was lowest at step 5, 1, and",
        ),
        ({"curve": {"kl": ((5.0, 3.5),)}}, "KL is 3.5, above 3"),
        ({"curve": {"kl": ((5.0, 2.5),)}}, None),
        ({"replies": replies(0, kl=4.0)}, "KL is 4, above 3"),
        (
            {"curve": {"eval_logps/chosen": ((0.0, -10.0), (5.0, -12.0))}},
            "Held-out chosen replies have become less likely",
        ),
        ({"curve": {"frac_reward_zero_std": ((5.0, 0.75),)}}, "In 75% of the groups all replies have the same reward"),
        ({"curve": {"completions/clipped_ratio": ((5.0, 0.5),)}}, "50% of the replies are cut"),
    ],
)
def test_what_a_person_should_look_at_is_said(values, words):
    found = progress.signs(a_training(**values))

    assert len(found) == (words is not None)
    assert words is None or found[0].startswith(words)


def test_a_training_on_pairs_is_shown_by_what_it_logs_of_them():
    names = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "eval_rewards/margins")
    right = progress.Right(n=100, accuracy=0.75, wilson95=(0.66, 0.82))
    gain = progress.Interval(mean=0.01, interval95=(-0.02, 0.04))
    training = a_training(
        "dpo",
        curve=dict.fromkeys(names, ((10.0, 0.5), (20.0, 0.25))),
        replies=[],
        metrics=progress.Metrics(
            steps=20,
            seconds=10.0,
            steps_per_second=2.0,
            batch=(16, 1),
            memory=None,
            held_out=progress.HeldOut(before=right, after=right, gain=gain),
        ),
    )

    csv, page = progress.csv(training), progress.written([training])

    assert csv.splitlines()[0] == "step,loss,eval_loss,accuracy,chosen,rejected,margin,told_apart"
    assert csv.splitlines()[1] == "10,NaN,NaN,NaN,0.5,0.5,0.5,0.5"
    for words in ("Rewards of the pairs", "Pairs told apart", "eval_rewards/margins", "100 held-out questions"):
        assert words in page
    assert "Parts of the reward" not in page


def test_figures_say_where_a_training_began_and_where_it_stands():
    told = progress.figures(a_training())

    assert told["steps"] == 20
    assert told["loss"] == {"first": 2.0, "last": 0.5}
    assert told["reward"] is None
    accuracy = told["accuracy"]
    assert (accuracy["n"], accuracy["first"], accuracy["last"], accuracy["best_step"]) == (2, 0.0, 0.5, 10)


def test_a_page_shows_every_training_and_the_same_questions_side_by_side():
    shown = progress.written([a_training("plain"), a_training("grpo", state="running", gaps={"loss": (3,)})])

    assert "1 done, 1 running" in shown
    assert "grpo, running" in shown
    assert "loss is not a number at step 3." in shown
    assert "✓ &lt;step&gt;甲&lt;/step&gt;" in shown
    assert "0 to 20" in shown  # the second question's reply never changed
    assert shown == progress.written([a_training("plain"), a_training("grpo", state="running", gaps={"loss": (3,)})])


def test_a_page_needs_neither_answers_nor_curves():
    shown = progress.written([a_training(questions=[], replies=[]), a_training("new", curve={}, replies=[], of=0)])

    assert "Right answers" not in shown


def test_a_training_that_goes_on_is_shown_as_such_and_a_killed_one_as_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = json.dumps({"step": 5, "of": 20, "loss": 2.0, "samples_per_second": 7.0})
    place = a_place(tmp_path, log=[line], torn='{"step": 6, "lo')
    a_place(tmp_path, "grpo", log=[line])
    (tmp_path / progress.PLACES / "predict@plain" / "0").mkdir(parents=True)

    with running(place):
        stopped, goes_on = progress.found_places()

    assert (stopped.name, stopped.state) == ("grpo", "stopped")
    assert (goes_on.name, goes_on.state, goes_on.step, goes_on.of) == ("plain", "running", 5, 20)
    assert progress.line(goes_on) == "plain: running, 5 of 20 steps, loss 2, 0 of 2 watched questions right"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("models/plain", "write NAME=MODEL"),
        ("x=models/nothing", r"models/nothing/run\.json: .*"),
        ("x=models/broken", r"models/broken/run\.json: "),
    ],
)
def test_a_model_that_cannot_be_read_is_named(tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/broken").mkdir(parents=True)
    (tmp_path / "models/broken/run.json").write_text("{}")

    with pytest.raises(Fault, match=words):
        progress.read_model(given)


def test_where_nothing_was_trained_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(progress.main, [])

    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "models: no training has left anything here or in .store/checkpoints; run `dvc repro`"
    ]


def test_the_command_does_not_load_torch(tmp_path):
    a_place(tmp_path, log=[json.dumps({"step": 5, "of": 20, "loss": 2.0})])
    code = "import sys; from train import progress; progress.main([], standalone_mode=False); print(*sys.modules)"

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )

    assert "torch" not in done.stdout.splitlines()[-1].split()
    assert "plain, stopped" in (tmp_path / progress.LIVE).read_text("utf-8")


@pytest.fixture(scope="module")
def reinforced(trained):
    """The project after sft@reasoning and grpo, where the stage has them."""
    grpo.main(["data/prompts.jsonl", "models/reasoning", "models/grpo", "metrics/grpo.json"], standalone_mode=False)
    (trained / "metrics/sft").mkdir(exist_ok=True)
    shutil.copy(trained / "metrics/sft.reasoning.json", trained / "metrics/sft/reasoning.json")
    return trained


MODELS = ("reasoning=models/reasoning,metrics/sft/reasoning.json", "grpo=models/grpo,metrics/grpo.json")
STAGE = ("report/training.html", "plots/progress", "metrics/progress.json", *MODELS)


def test_the_stage_writes_page_plots_and_metrics_of_the_trainings_it_is_given(reinforced):
    progress.main(STAGE, standalone_mode=False)

    before = {path: (reinforced / path).read_bytes() for path in STAGE[:1] + STAGE[2:3]}
    shown = before["report/training.html"].decode()
    for words in ("Loss", "Reward", "Parts of the reward", "KL from the start", "Entropy", "Gradient norm", "Settings"):
        assert words in shown
    assert "Held-out prompts, sampled before training and after it" in shown
    told = json.loads(before["metrics/progress.json"])
    assert list(told) == ["reasoning", "grpo"]
    assert told["reasoning"]["accuracy"]["n"] == 4
    head = (reinforced / "plots/progress/grpo.csv").read_text().splitlines()[0].split(",")
    assert {"step", "loss", "reward", "correct", "neutrality", "accuracy", "kl_from_start"} <= set(head)
    progress.main(STAGE, standalone_mode=False)
    assert {path: (reinforced / path).read_bytes() for path in before} == before


def test_without_arguments_every_model_there_is_is_shown(reinforced, capsys):
    progress.main([], standalone_mode=False)

    said = capsys.readouterr().out.splitlines()
    assert {"reasoning: done, 8 of 8 steps", "grpo: done, 2 of 2 steps"} <= {
        line.partition(", loss")[0] for line in said
    }
    assert (reinforced / progress.LIVE).exists()


def test_the_page_is_readable_in_a_browser_without_a_network(reinforced):
    progress.main(STAGE, standalone_mode=False)
    url = (reinforced / "report/training.html").absolute().as_uri()

    with browser() as driver:
        for width in (390, 1280):
            for dark in (False, True):
                look(driver, width, dark)
                driver.get(url)
                for folded in driver.find_elements("css selector", "details"):
                    driver.execute_script("arguments[0].open = true", folded)
                screenshot(driver, f"training-{width}-{'dark' if dark else 'light'}")
                assert not overflows(driver)
        assert "第" in driver.find_element("tag name", "main").text
        assert len(driver.find_elements("css selector", "figure svg")) > 10
        assert set(requests_of(driver)) == {url}
        assert complaints(driver) == []
