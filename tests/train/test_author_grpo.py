import json
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas import profile, rows
from schemas.faults import Fault
from schemas.record import Commission, Example, Message
from tests.train.author.written import GOOD, a_reply, an_item
from tests.train.conftest import run
from tests.train.test_survive import killed, same_bytes, started, written
from train import author_grpo, author_sft, reinforce, watch
from train.author.alike import Seen, text_of
from train.author.curriculum import KINDS
from train.author.examine import VERDICTS
from train.author.quality import QUALITIES

STAGE = ("data/mix/prompts.jsonl", "data/mix/train.jsonl", "models/fluent")
TRAINER = {
    "max_steps": 4,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 180,
    "temperature": 0.7,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "logging_steps": 1,
    "save_steps": 1,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
}
SMALL = {
    "max_prompt": 200,
    "held_out": 2,
    "samples": 4,
    "mix": {"base": 0.25, "variation": 0.25, "innovation": 0.25},
    "watch": {"questions": 1, "every": 2},
}


OTHER = an_item(
    question="方程4x+6=26的解是多少？",
    options=("6", "7", "5", "20"),
    steps=("移项，4x=26-6=20。", "两边除以4，x=20/4=5。"),
    answer="C",
)


def few() -> list[Example]:
    """Chats in which the author writes one of two questions for each commission, after its solution."""
    return [
        Example(id=f"{n}/{one.id}", messages=(*one.prompt, Message(role="assistant", content=a_reply(item))))
        for one in rows.read("data/mix/prompts.jsonl", Commission)
        for n, item in enumerate((GOOD, OTHER))
    ]


@pytest.fixture(scope="session")
def fluent(author_project):
    """The project with an author that has learnt two questions by heart, and writes them right now and then."""
    before = Path("params.yaml").read_text("utf-8")
    trainer = profile.read(Path("params.yaml"))["author_sft"]["trainer"]
    trainer |= {
        "max_steps": 120,
        "per_device_train_batch_size": 12,
        "gradient_accumulation_steps": 1,
        "learning_rate": 4e-3,
        "save_steps": 120,
        "eval_steps": 120,
    }
    small = {
        "author_sft": {
            "trainer": trainer,
            "thinking": [True],
            "watch": {"questions": 0},
            "sampling": {"max_new_tokens": 230},
        }
    }
    Path("params.yaml").write_text(profile.text(profile.merged(profile.read(Path("params.yaml")), small)), "utf-8")
    for name in ("train", "validation"):
        rows.write(f"data/few/{name}.jsonl", few())
    sets = ("data/few/train.jsonl", "data/few/validation.jsonl", "data/mix/prompts.jsonl")
    run(author_sft.main, *sets, "models/author_base", "models/fluent", "metrics/fluent.json")
    Path("params.yaml").write_text(before, "utf-8")
    return author_project


def figures(name: str) -> dict:
    return json.loads(Path(f"metrics/{name}.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def reinforced(fluent):
    """The project after author_grpo."""
    before = Path("params.yaml").read_text("utf-8")
    small = {"author_grpo": {**SMALL, "trainer": TRAINER}}
    Path("params.yaml").write_text(profile.text(profile.merged(profile.read(Path("params.yaml")), small)), "utf-8")
    run(author_grpo.main, *STAGE, "models/author_grpo", "metrics/author_grpo.json")
    yield fluent
    Path("params.yaml").write_text(before, "utf-8")


def test_qualities_and_verdicts_are_shown_before_and_after_with_their_intervals(reinforced):
    found = figures("author_grpo")

    assert (found["steps"], found["prompts"], found["prompts_too_long"], found["taught"]) == (4, 4, 0, 64)
    assert set(found["reward_before"]["components"]) == {"difficulty", "novelty", "rigor", "diversity"}
    assert found["reward_before"]["mean"] > 0.3
    assert found["reward_gain"]["mean"] == pytest.approx(
        found["reward_after"]["mean"] - found["reward_before"]["mean"], abs=1e-3
    )
    for when in ("before", "after"):
        verdicts = found[f"verdicts_{when}"]
        assert sum(verdicts[name]["mean"] for name in VERDICTS) == pytest.approx(1, abs=1e-3)
        assert len(verdicts["confirmed"]["interval95"]) == 2
    assert Path("models/author_grpo/model.safetensors").exists()


def test_every_kind_of_prompt_was_put_and_counted(reinforced):
    found = figures("author_grpo")

    assert found["asked"] == dict.fromkeys(KINDS, 2)
    assert found["shares"] == dict.fromkeys(KINDS, 0.25)


def test_held_out_commissions_are_watched_and_kept_out(reinforced):
    samples = list(rows.read("models/author_grpo/samples.jsonl", author_grpo.Written))
    watched = list(rows.read("models/author_grpo/checkpoints.jsonl", watch.Reply))

    held = {one.id for one in samples}
    assert (len(samples), len(held)) == (8, 2)
    assert [one.step for one in watched] == [0, 2, 4]
    assert {one.id for one in watched} <= held
    assert all(one.qualities.keys() == QUALITIES.keys() for one in watched)


def test_watching_changes_neither_what_is_trained_nor_what_is_new_to_its_rewards(reinforced, changed):
    changed({"author_grpo": {"watch": {"questions": 0, "every": 2}}})

    run(author_grpo.main, *STAGE, "models/unwatched", "metrics/unwatched.json")

    for name in ("model.safetensors", "curve.jsonl", "samples.jsonl"):
        assert Path("models/unwatched", name).read_bytes() == Path("models/author_grpo", name).read_bytes()
    assert Path("models/unwatched", watch.REPLIES).read_bytes() == b""


def test_killed_and_run_again_it_asks_and_ends_as_one_that_was_never_stopped(reinforced, tmp_path, monkeypatch):
    process = started(tmp_path, "author_grpo", *STAGE, "models/killed", "metrics/killed.json")
    killed(process, written(tmp_path, 2))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (place,) = tmp_path.glob(".store/checkpoints/author_grpo/*")
    state = json.loads((place / "checkpoint-2/trainer_state.json").read_text("utf-8"))
    run(author_grpo.main, *STAGE, "models/killed", "metrics/killed.json")

    remembered = state["stateful_callbacks"]["Remembering"]["attributes"]
    assert remembered["best"] and remembered["own"]
    assert figures("killed")["resumed_at"] >= 2
    assert figures("killed")["asked"] == figures("author_grpo")["asked"]
    assert same_bytes(reinforced / "models/killed", reinforced / "models/author_grpo")
    assert (reinforced / "models/killed/model.safetensors").read_bytes() != (
        reinforced / "models/fluent/model.safetensors"
    ).read_bytes()
    assert not (tmp_path / "asked").exists()


def test_a_run_that_failed_late_keeps_what_it_counted(reinforced, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def full_disk(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(reinforce, "save", full_disk)
        with pytest.raises(OSError, match="no space"):
            run(author_grpo.main, *STAGE, "models/late", "metrics/late.json")
    run(author_grpo.main, *STAGE, "models/late", "metrics/late.json")

    assert figures("late")["resumed_at"] == 4
    assert figures("late")["asked"] == figures("author_grpo")["asked"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"qualities": {"novlty": 1.0}}, r"author_grpo\.qualities\.novlty: no such reward; did you mean 'novelty'"),
        (
            {"qualities": dict.fromkeys(QUALITIES, 0.0)},
            r"author_grpo\.qualities: none has a weight; there are difficulty, ",
        ),
        ({"mix": {"base": 0.9, "variation": 0.2}}, "author_grpo.mix: .*more than 1 together"),
        ({"max_prompt": 3}, r"prompts\.jsonl: 0 prompts of at most 3 tokens"),
        ({"held_out": 5}, "6 prompts of .* too few to train on with 5 of them held out"),
        ({"max_prompt": 205}, "max_prompt 205 and max_completion_length 180 are 385 tokens, the model is made for 384"),
        ({"trainer": {**TRAINER, "num_generation": 4}}, "did you mean 'num_generations'"),
        ({"trainer": {**TRAINER, "chat_template_kwargs": {}}}, "chat_template_kwargs: the stage sets it itself"),
        ({"model": "models/none/at/all"}, "models/none/at/all: no such folder; train it first"),
    ],
)
def test_a_setting_that_cannot_work_is_named(reinforced, changed, change, words):
    changed({"author_grpo": change})

    with pytest.raises(Fault, match=words):
        run(author_grpo.main, *STAGE, "models/y", "metrics/y.json")


def test_a_variation_that_nobody_has_worded_is_named(reinforced, changed):
    params = profile.read(Path("params.yaml"))
    changed({})
    del params["prompts"]["author"]["variations"]["parameter_change"]
    Path("params.yaml").write_text(profile.text(params), "utf-8")

    with pytest.raises(Fault, match=r"prompts\.author\.variations: no parameter_change; add it"):
        run(author_grpo.main, *STAGE, "models/y", "metrics/y.json")


def test_no_commissions_are_a_fault(reinforced, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("")

    with pytest.raises(Fault, match=r"prompts\.jsonl: no rows to write for"):
        run(author_grpo.main, tmp_path / "prompts.jsonl", *STAGE[1:], "models/y", "metrics/y.json")


def test_a_commission_of_an_unknown_cell_is_named(reinforced, tmp_path):
    every = [replace(one, difficulty="olympic", topic="tea") for one in rows.read(STAGE[0], Commission)]
    rows.write(tmp_path / "prompts.jsonl", every)

    with pytest.raises(Fault) as found:
        run(author_grpo.main, tmp_path / "prompts.jsonl", *STAGE[1:], "models/y", "metrics/y.json")

    first, second = found.value.message.splitlines()
    assert first.startswith("params.yaml: topics.tea: no such key; ")
    assert second == "olympic: no such difficulty in train.author.quality.LEVELS; say how much there is to do"


def test_thinking_takes_a_template_that_knows_it(reinforced, tmp_path, changed):
    shutil.copytree("models/fluent", tmp_path / "deaf")
    template = tmp_path / "deaf/chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("enable_thinking", "x"), "utf-8")
    stage = (*STAGE[:2], tmp_path / "deaf", "models/y", "metrics/y.json")

    with pytest.raises(Fault, match=r"author_grpo\.thinking: true, but the model's chat template knows no enable_thi"):
        run(author_grpo.main, *stage)


def test_new_before_and_after_is_what_was_not_taught():
    commission = Commission(id="c", topic="algebra", difficulty="basic", type="factual", prompt=())

    (known,) = author_grpo.judged([commission], [a_reply()], Seen([text_of(GOOD)]), {"novelty": 1.0})
    (fresh,) = author_grpo.judged([commission], [a_reply()], Seen(), {"novelty": 1.0})

    assert (known.total, fresh.total) == (0.0, 1.0)
    assert (known.verdict, known.why) == ("confirmed", "")
