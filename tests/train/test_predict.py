import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import rows
from schemas.faults import Fault
from schemas.record import Prediction
from train import generate, predict, score, submission
from train.generate import Batch
from train.predict import Done, Reply, Task, dealt, kept, predictions

ROOT = Path(__file__).parents[2]
DRAWN = {"batch_size": 2, "votes": 2, "temperature": 1.0}


def run(variant: str, name: str, model: str = "models/reasoning") -> dict:
    """Predict as the command line does; return the metrics."""
    predict.main([variant, model, "data/test.csv", f"{name}.jsonl", f"{name}.json"], standalone_mode=False)
    return json.loads(Path(f"{name}.json").read_text("utf-8"))


def killed(name: str, after: int) -> None:
    """Predict in a process of its own that is killed when so many batches are on disk."""
    program = (
        "import os, signal, sys\n"
        "from train import predict\n"
        "fsync, left = os.fsync, [None] * int(sys.argv.pop(1))\n"
        "def fatal(number):\n"
        "    fsync(number)\n"
        "    left.pop()\n"
        "    if not left:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.fsync = fatal\n"
        "predict.main(sys.argv[1:])\n"
    )
    given = [str(after), "reasoning", "models/reasoning", "data/test.csv", f"{name}.jsonl", f"{name}.json"]
    done = subprocess.run([sys.executable, "-c", program, *given], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL


def test_answers_come_in_the_order_of_the_test_file_and_are_handed_in(trained):
    figures = run("reasoning", "p")
    submission.main(["p.jsonl", "data/test.csv", "submissions/reasoning", "metrics/s.json"], standalone_mode=False)
    score.main(["data/key.csv", "metrics/score.json", "reasoning=submissions/reasoning"], standalone_mode=False)

    assert [p.id for p in rows.read("p.jsonl", Prediction)] == [f"t{n}" for n in range(16)]
    assert (figures["n"], figures["batch"], figures["agreement"], figures["letters"]) == (16, 8, None, None)
    assert json.loads((trained / "metrics/score.json").read_text())["variants"]["reasoning"]["n"] == 16
    assert not list((trained / ".store/checkpoints/predict@reasoning").iterdir())


def test_a_killed_run_goes_on_to_the_same_bytes(trained, changed):
    changed({"predict": {"reasoning": DRAWN}})

    killed("k1", after=5)
    (file,) = trained.glob(".store/checkpoints/predict@reasoning/*/replies.jsonl")
    with open(file, "ab") as log:
        log.write(b'{"vote":0,"ind')  # the line that it was at
    figures = run("reasoning", "k1")

    assert figures["reused"] == 10
    assert run("reasoning", "k2")["reused"] == 0
    assert Path("k1.jsonl").read_bytes() == Path("k2.jsonl").read_bytes()
    assert 0 <= figures["agreement"] <= 1


def test_a_run_stopped_at_its_second_vote_asks_only_for_what_is_missing(trained, changed):
    changed({"predict": {"reasoning": {**DRAWN, "batch_size": 16}}})
    asked = []
    real = generate.replies

    def counted(speak, prompts, batch, sampling):
        asked.append(sampling.seed)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(speak, prompts, batch, sampling)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "replies", counted)
        with pytest.raises(KeyboardInterrupt):
            predict.main.callback("reasoning", "models/reasoning", *map(Path, ("data/test.csv", "k3.jsonl", "k3.json")))
        assert run("reasoning", "k3")["reused"] == 16

    assert asked == [7, 1_000_010, 1_000_010]


def test_a_cluster_gives_the_same_bytes_as_one_process(trained, changed, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where workers find this package if it is not installed
    changed({"predict": {"reasoning": DRAWN}})
    run("reasoning", "c1")

    changed({"predict": {"reasoning": DRAWN}, "workers": {"processes": 2, "ray": "local"}})
    run("reasoning", "c2")

    assert Path("c1.jsonl").read_bytes() == Path("c2.jsonl").read_bytes()


class Mortal:
    """A worker that dies of some batches."""

    def __init__(self, fatal: int, marker: str) -> None:
        self.fatal, self.marker = fatal, Path(marker)

    def answer(self, task: Task) -> Done:
        if task.batch.start == self.fatal or (task.batch.start == 1 and not self.marker.exists()):
            self.marker.touch()
            os._exit(1)
        return Done([Reply(task.vote, task.batch.start, "A")], [], None)


@pytest.fixture(scope="module")
def a_cluster():
    from ray import cloudpickle

    from schemas.cluster import cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers know nothing of tests
    with cluster(None, 3, memory=2**27, hidden={}):
        yield


def test_a_batch_whose_worker_died_goes_to_another_once(a_cluster, tmp_path, capsys):
    import ray

    tasks = [Task(0, Batch(start, (start,))) for start in range(4)]

    def team(fatal, name):
        return [ray.remote(Mortal).remote(fatal, str(tmp_path / name)) for _ in range(3)]

    made = sorted(done.replies[0].index for done in dealt(tasks, team(-1, "x")))
    said = capsys.readouterr().out
    with pytest.raises(Fault, match=r"^workers\.ray: two workers died of one batch: "):
        list(dealt(tasks, team(2, "x")))

    assert made == [0, 1, 2, 3]
    # Ray writes of it too
    assert said.splitlines().count("a worker died; its batch of 1 goes to another") == 1


def test_without_workers_left_the_run_ends_with_one_line(a_cluster, tmp_path):
    import ray

    team = [ray.remote(Mortal).remote(-1, str(tmp_path / "x"))]

    with pytest.raises(
        Fault, match=r"^workers\.ray: every worker has died \(.*\); the same command goes on from here$"
    ):
        list(dealt([Task(0, Batch(1, (1,)))], team))


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    file = tmp_path / "replies.jsonl"
    file.write_bytes('{"vote":0,"index":1,"text":"B\u2028"}\n{"vote":0,"ind'.encode())

    assert kept(file) == [Reply(0, 1, "B\u2028")]
    assert file.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("texts", "answer", "agreement"),
    [
        (["A", "B", "B"], "B", 2 / 3),
        (["C", "A"], "C", 1 / 2),
        (["C", "A", "A", "C"], "C", 1 / 2),
        (["不知道", "不知道", "D"], "D", 1 / 3),
        (["不知道", "B", "D", "D"], "D", 1 / 2),
        (["B"], "B", 1),
    ],
)
def test_the_majority_of_the_letters_found_wins(texts, answer, agreement):
    ((made, share),) = predictions(["q"], [Reply(vote, 0, text) for vote, text in enumerate(texts)])

    assert made.answer == answer
    assert made.response == answer
    assert share == pytest.approx(agreement)


def test_where_no_reply_gives_a_letter_nothing_agrees():
    ((made, share),) = predictions(["q"], [Reply(vote, 0, "不知道") for vote in range(2)])

    assert (made.strategy, share) == ("none", 0)


def test_the_likeliest_letter_answers_without_a_reply(trained, changed):
    changed({"predict": {"plain": {"by": "likelihood"}}})

    figures = run("plain", "l")

    made = list(rows.read("l.jsonl", Prediction))
    assert {p.strategy for p in made} == {"likelihood"}
    assert all(p.response.startswith(f"{p.answer} -") for p in made)
    assert 0 < figures["letters"] <= 1


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"votes": 3}, r"predict\.reasoning\.votes: 3 greedy replies are the same"),
        ({"by": "likelihood", "votes": 3, "temperature": 1.0}, "by: likelihood takes votes: 1"),
        ({"by": "likelihood", "engine": "vllm"}, "and engine: transformers"),
        ({"engine": "vllm"}, "vllm is not installed"),
    ],
)
def test_params_that_cannot_be_followed_are_one_line(trained, changed, monkeypatch, params, words):
    monkeypatch.setitem(sys.modules, "vllm", None)
    changed({"predict": {"reasoning": params}})

    with pytest.raises(Fault, match=words):
        run("reasoning", "x")


def test_the_size_that_memory_bears_is_said_with_its_reason(trained, changed, capsys):
    changed({"predict": {"reasoning": {"batch_size": None}}})

    run("reasoning", "s")

    said = capsys.readouterr().out
    assert "predict@reasoning: 64 questions at a time: there is no GPU to measure\n" in said


def test_a_full_disk_is_one_line(trained, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(Fault, match=r"replies\.jsonl: No space left on device; make room, and the same command goes"):
        run("reasoning", "f")


def test_an_adapter_answers_on_its_base(project, changed):
    from train import sft

    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj"], "bias": "none"}
    changed({"sft": {"plain": {"lora": lora, "trainer": {**SHORT}}}})
    sets = ["data/sft.plain.train.jsonl", "data/sft.plain.validation.jsonl"]

    sft.main(["plain", *sets, "models/base", "models/plain", "metrics/x.json"], standalone_mode=False)
    run("plain", "p4", model="models/plain")

    assert len(list(rows.read("p4.jsonl", Prediction))) == 16


SHORT = {"max_steps": 1, "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_length": 160}
