import json
import shutil
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from schemas import profile
from train import check

ROOT = Path(__file__).parents[2]
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"], "bias": "none"}
PIPELINE = """
stages:
  base:
    cmd: python -m train.base data/train.jsonl data/sft.reasoning.train.jsonl models/base metrics/base.json
    outs:
      - models/base
  sft:
    foreach: ${sft}
    do:
      cmd: >-
        python -m train.sft ${key} data/sft.${key}.train.jsonl data/sft.${key}.validation.jsonl
        models/base models/${key} metrics/sft/${key}.json
      outs:
        - models/${key}
  dpo:
    cmd: python -m train.dpo data/pairs models/reasoning models/dpo metrics/dpo.json
    outs:
      - models/dpo:
          cache: false
  grpo:
    cmd: python -m train.grpo data/prompts.jsonl models/reasoning models/grpo metrics/grpo.json
    outs:
      - models/grpo
  attempt:
    cmd: python -m train.attempt models/reasoning data/prompts.jsonl data/attempts.jsonl metrics/attempt.json
    outs:
      - data/attempts.jsonl
  predict:
    foreach: ${predict}
    do:
      cmd: python -m train.predict ${key} models/${key} data/test.csv predictions/${key}.jsonl metrics/${key}.json
      outs:
        - predictions/${key}.jsonl
  submission:
    foreach: ${predict}
    do:
      cmd: python -m train.submission predictions/${key}.jsonl data/test.csv submissions/${key} metrics/${key}.json
      outs:
        - submissions/${key}
  score:
    cmd: python -m train.score data/key.csv metrics/score.json plain=submissions/plain/submission.csv
"""

OF_THE_AUTHOR = """
stages:
  author_distill:
    cmd: >-
      python -m train.author_distill data/mix/train.jsonl data/mix/validation.jsonl data/mix/prompts.jsonl
      models/author_base models/author_distill metrics/author_distill.json
    outs:
      - models/author_distill
    metrics:
      - metrics/author_distill.json
  author_report:
    foreach: ${authors}
    do:
      cmd: >-
        python -m train.author_report data/mix/prompts.jsonl data/mix/author.jsonl metrics/author_distill.json
        report/author.html plots/author metrics/author_report.json
        base=models/author_base author_distill=models/author_distill
"""


@contextmanager
def own(project, place, folders, pipeline):
    """Some folders of a project and its params, with a dvc.yaml, as a project of one's own."""
    for folder in folders:
        shutil.copytree(project / folder, place / folder)
    shutil.copy(project / "params.yaml", place)
    (place / "dvc.yaml").write_text(pipeline, encoding="utf-8")
    with chdir(place):
        yield place


@pytest.fixture
def copied(project, tmp_path):
    """A project of one's own, nothing trained in it yet."""
    with own(project, tmp_path, ("data", "models/base"), PIPELINE) as place:
        yield place


@pytest.fixture
def authors(author_project, tmp_path):
    """The author's part of a project, its base model made."""
    with own(author_project, tmp_path, ("data/mix", "models/author_base"), OF_THE_AUTHOR) as place:
        yield place


def checked(*arguments):
    done = CliRunner().invoke(check.main, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output.splitlines()


def change(values):
    path = Path("params.yaml")
    path.write_text(profile.text(profile.merged(profile.read(path), values)), encoding="utf-8")


def adapter(base, hidden=64):
    """A folder with an adapter of rank 2 on one layer."""
    folder = Path("models/adapter")
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    shapes = {"A": (2, hidden), "B": (hidden, 2)}
    save_file(
        {name.format(side): np.zeros(shape, np.float32) for side, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )


def test_each_stage_has_a_line_with_its_figures(copied):
    code, lines = checked()

    assert lines[:-1] == [
        "base: ok",
        "sft@plain: ok, 48 rows, 8 steps of 8 (1.3 epochs)",
        "sft@reasoning: ok, 48 rows, 8 steps of 8 (1.3 epochs)",
        "dpo: ok, 96 pairs, models/reasoning not made yet, 4 steps of 4 (0.36 epochs)",
        "grpo: ok, 48 prompts, models/reasoning not made yet, 2 steps of 8 (0.091 epochs)",
        "attempt: ok, 48 prompts, models/reasoning not made yet",
        "predict@plain: ok, models/plain not made yet, 16 questions",
        "predict@reasoning: ok, models/reasoning not made yet, 16 questions",
        "predict@dpo: ok, models/dpo not made yet, 16 questions",
        "predict@grpo: ok, models/grpo not made yet, 16 questions",
        "score: ok, 16 questions, submissions/plain/submission.csv not made yet",
    ]
    assert code == 0


def test_every_fault_of_a_stage_is_said_not_only_the_first(copied):
    settings = {"lerning_rate": 1e-3, "max_stps": 2, "use_cpu": True, "bf16": False, "warmup_steps": 99, "max_steps": 3}
    change({"sft": {"reasoning": {"trainer": settings, "lora": {**LORA, "targets": ["q_porj"]}}}})
    Path("data/sft.reasoning.validation.jsonl").write_text("")

    code, lines = checked("sft")

    said = "\n".join(lines)
    for words in ("'learning_rate'", "'max_steps'", "'q_proj'", "99, but there are 3", "no rows to validate on"):
        assert words in said
    assert "sft@plain: ok" in said
    assert code == 1
    assert lines[-1].startswith("check: 2 stages, 5 faults, ")


@pytest.mark.parametrize(
    ("names", "shown"),
    [(("dpo",), ["dpo"]), (("sft",), ["sft@plain", "sft@reasoning"]), (("sft@plain", "base"), ["base", "sft@plain"])],
)
def test_stages_can_be_named(copied, names, shown):
    _, lines = checked(*names)

    assert [line.partition(":")[0] for line in lines[:-1]] == shown


def test_another_params_file_is_looked_at_and_named(copied):
    change({"grpo": {"rewards": {"corect": 1.0}}})
    Path("params.yaml").rename("mine.yaml")

    _, lines = checked("grpo", "--params", "mine.yaml")

    assert lines[0].startswith("grpo: mine.yaml: grpo.rewards.corect: ")


def test_a_stage_that_is_none_is_named(copied):
    assert checked("gprpo") == (1, ["gprpo: no such stage; did you mean 'grpo'?"])


@pytest.mark.parametrize(
    ("values", "stage", "words"),
    [
        ({"dpo": {"model": "models/nowhere"}}, "dpo", "models/nowhere: no such folder; train it first"),
        (
            {"dpo": {"model": "Qwen/Qwen2.5-7B-Instruct"}},
            "dpo",
            "dpo: ok, 96 pairs, Qwen/Qwen2.5-7B-Instruct on the Hub",
        ),
        ({"dpo": {"seed": "x"}}, "dpo", "params.yaml: dpo.seed: Expected `int`, got `str`"),
        ({"grpo": {"rewards": {"corect": 1.0}}}, "grpo", "did you mean 'correct'?"),
        (
            {"predict": {"dpo": {"prompt": "reasonin"}}},
            "predict@dpo",
            "did you mean 'reasoning'? (it is predict.dpo.prompt)",
        ),
        ({"prompts": {"plain": {"user": "{questions}"}}}, "predict@plain", "prompts.plain.user: KeyError('questions')"),
        ({"prompts": {"plain": {"option": "{letter}"}}}, "predict@plain", "prompts.plain.option: no {text} in it"),
        ({"attempt": {"engine": "vllm"}}, "attempt", "attempt.engine: vllm is not installed"),
        ({"attempt": {"votes": 3}}, "attempt", "attempt.votes: 3 greedy replies are the same"),
        ({"sft": {"plain": {"compile": True}}}, "sft@plain", "compile is for a GPU, not done on the CPU"),
        (
            {"sft": {"plain": {"trainer": {"max_steps": 4, "bf16": True}}}},
            "sft@plain",
            "ok, 48 rows, no GPU here: looked at as for the CPU, 4 steps of 8",
        ),
    ],
)
def test_a_setting_is_looked_at(copied, values, stage, words):
    change(values)

    _, lines = checked(stage)

    assert any(words in line for line in lines), lines


@pytest.mark.parametrize(
    ("path", "text", "stage", "words"),
    [
        ("data/prompts.jsonl", "", "grpo", "data/prompts.jsonl: no rows to train on"),
        (
            "data/prompts.jsonl",
            '{"id": "a"}\n',
            "attempt",
            "data/prompts.jsonl:1: Object missing required field `prompt`",
        ),
        ("data/pairs/train.jsonl", "", "dpo", "data/pairs/train.jsonl: no rows to train on"),
        ("data/test.csv", "id,question\n1,?\n", "predict@plain", "data/test.csv: no column option_A"),
        (
            "data/test.csv",
            "id,question,option_A,option_B,option_C,option_D\n",
            "predict@plain",
            "data/test.csv: no rows",
        ),
        ("data/key.csv", "id,answer\n1,E\n", "score", "answer 'E' is not one of A, B, C, D"),
        ("models/base/model.safetensors", "x", "sft@plain", "models/base/model.safetensors: cut off or damaged"),
    ],
)
def test_a_file_is_looked_at(copied, path, text, stage, words):
    Path(path).write_text(text, encoding="utf-8")

    code, lines = checked(stage)

    assert any(words in line for line in lines), lines
    assert code == 1


@pytest.mark.parametrize(
    ("path", "stage", "words"),
    [
        ("data/prompts.jsonl", "grpo", "data/prompts.jsonl: No such file"),  # no stage of this pipeline makes it
        ("models/base/config.json", "sft@plain", "models/base: no config.json and no adapter_config.json in it"),
        ("models/base/model.safetensors", "sft@plain", "models/base: no weights in it"),
        ("models/base/tokenizer_config.json", "sft@plain", "models/base: no tokenizer_config.json in it"),
        ("models/base/chat_template.jinja", "sft@plain", "models/base: has no chat template"),
    ],
)
def test_a_file_that_is_missing_is_named(copied, path, stage, words):
    Path(path).unlink()

    code, lines = checked(stage)

    assert any(words in line for line in lines), lines
    assert code == 1


@pytest.mark.parametrize(
    ("base", "hidden", "words"),
    [
        ("models/base", 64, "dpo: ok"),
        (
            "models/base",
            96,
            "a wrong adapter for its base models/base: model.layers.0.self_attn.q_proj is 64 × 64 there",
        ),
        ("models/bsae", 64, "models/bsae: no such folder; did you mean 'models/base'?"),
        ("models/empty", 64, "models/empty: no config.json"),
    ],
)
def test_an_adapter_has_to_fit_its_base(copied, base, hidden, words):
    adapter(base, hidden)
    Path("models/empty").mkdir()
    change({"dpo": {"model": "models/adapter"}})

    _, lines = checked("dpo")

    assert any(words in line for line in lines), lines


def test_an_adapter_for_layers_that_the_base_has_not_is_named(copied):
    adapter("models/base")
    file = Path("models/adapter/adapter_model.safetensors")
    save_file({"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": np.zeros((2, 64), np.float32)}, file)
    change({"dpo": {"model": "models/adapter"}})

    _, lines = checked("dpo")

    assert "it has no model.layers.9.self_attn.q_proj" in lines[0]


def test_the_report_of_the_author_is_looked_at_while_its_models_are_to_come(authors):
    code, lines = checked("author_report")

    assert lines[0] == (
        "author_report@mathematics: ok, 6 commissions, 72 questions, metrics/author_distill.json not made yet, "
        "models/author_distill not made yet"
    )
    assert code == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"author_report": {"weights": {"novlty": 1.0}}}, "author_report.weights.novlty: no such reward; did you mean"),
        ({"author_report": {"thinking": []}}, "author_report.thinking: []; take true, false or both"),
        ({"author_report": {"originals": 99}}, "ok, 6 commissions, 72 questions, "),
        ({"author_report": {"originals": 99}}, ", 72 questions to vary, not 99"),
        ({"author_report": {"seed": "x"}}, "params.yaml: author_report.seed: Expected `int`, got `str`"),
    ],
)
def test_a_setting_of_the_authors_report_is_looked_at(authors, values, words):
    change(values)

    _, lines = checked("author_report")

    assert words in lines[0]


@pytest.mark.parametrize(
    ("path", "old", "new", "words"),
    [
        ("data/mix/prompts.jsonl", None, "", "data/mix/prompts.jsonl: no rows to write for"),
        ("data/mix/author.jsonl", None, "", "data/mix/author.jsonl: no rows to vary"),
        ("data/mix/prompts.jsonl", '"basic"', '"olympic"', "params.yaml: difficulties.olympic: no such key"),
        ("params.yaml", "parameter_change:", "parameters:", "prompts.author.variations: no parameter_change; add it"),
        (
            "models/author_base/chat_template.jinja",
            "enable_thinking",
            "x",
            "author_report.thinking: both, but the model's chat template knows no enable_thinking",
        ),
        ("models/author_base/model.safetensors", None, "x", "model.safetensors: cut off or damaged"),
        (
            "dvc.yaml",
            "    metrics:\n      - metrics/author_distill.json\n",
            "",
            "metrics/author_distill.json: no such file, no stage",
        ),
        ("dvc.yaml", "base=models/author_base", "models/author_base", "models/author_base: write NAME=MODEL"),
    ],
)
def test_what_the_authors_report_needs_is_looked_at(authors, path, old, new, words):
    file = Path(path)
    file.write_text(file.read_text("utf-8").replace(old, new) if old else new, encoding="utf-8")

    code, lines = checked("author_report")

    assert any(words in line for line in lines), lines
    assert code == 1


def test_the_projects_own_pipeline_has_every_stage_that_is_looked_at():
    document, params = profile.read(ROOT / "dvc.yaml"), profile.read(ROOT / "params.yaml")

    stages, made = check.pipeline(document, params)

    assert {stage.name.partition("@")[0] for stage in stages} == set(check.CHECKS)
    assert {"sft@plain", "sft@reasoning", "predict@dpo"} <= {stage.name for stage in stages}
    assert Path("models/dpo") in made
