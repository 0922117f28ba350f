"""The pipeline as people run it: real DVC, real stages, a small grid, in a project folder of its own."""

import contextlib
import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from schemas import profile

ROOT = Path(__file__).parents[1]
TOPICS = ("economy", "environment", "education", "algebra")
TINY = {
    "max_steps": 12,
    "per_device_train_batch_size": 8,
    "save_steps": 6,
    "logging_steps": 6,
    "warmup_steps": 2,
    "lr_scheduler_type": "constant_with_warmup",
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
}
REINFORCED = TINY | {
    "max_steps": 2,
    "warmup_steps": 0,
    "save_steps": 1,
    "logging_steps": 1,
    "num_generations": 4,
    "max_completion_length": 12,
}
SMALL: dict[str, Any] = {
    **{kind: {"rows": 12} for kind in ("verify", "judge", "improve", "vary", "contrast", "translate")},
    "split": {"test": 0.2, "validation": 0.1, "rollout": 0.1},
    "base": {"vocabulary": 600, "layers": 2, "hidden": 64, "intermediate": 64},
    "sft": {
        variant: {"questions": 8, "sampling": {"max_new_tokens": 8}, "trainer": TINY | {"max_length": 256}}
        for variant in ("plain", "reasoning")
    },
    "dpo": {
        "types": ["wrong_answer"],
        "held_out": 10,
        "watch": {"questions": 4},
        "trainer": TINY | {"max_length": 256},
    },
    "grpo": {
        "held_out": 4,
        "samples": 2,
        "trainer": REINFORCED,
    },
    "mix": {
        "difficulties": ["basic", "advanced"],
        "types": ["factual", "conceptual", "evaluative"],
        "commissions": 2,
        "validation": 0.2,
    },
    "author_base": {"vocabulary": 400, "layers": 2, "hidden": 64, "intermediate": 64},
    "author_sft": {
        "fixed": ["algebra/basic/factual/0"],
        "questions": 4,
        "sampling": {"max_new_tokens": 8},
        "watch": {"questions": 1},
        "trainer": TINY | {"max_length": 384},
    },
    "author_grpo": {
        "held_out": 4,
        "samples": 2,
        "watch": {"questions": 1},
        "trainer": REINFORCED,
    },
    "author_distill": {
        "fixed": ["algebra/basic/factual/0"],
        "held_out": 2,
        "samples": 1,
        "rounds": 2,
        "questions": 4,
        "sampling": {"max_new_tokens": 8},
        "watch": {"questions": 1},
        "trainer": TINY | {"max_length": 384, "max_steps": 4, "save_steps": 2},
    },
    "author_report": {"questions": 4, "originals": 2, "sampling": {"max_new_tokens": 8}},
    "predict": {variant: {"max_new_tokens": 8} for variant in ("plain", "reasoning", "dpo", "grpo")},
}


def dvc(project: Path, *words: str, status: int = 0) -> str:
    """Run DVC in a project as a person does; return what it printed."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
    }
    env.pop("DVC_ROOT", None)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=project, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def stages_run(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}


def rewrite(project: Path, change: Any) -> None:
    """Change params.yaml by hand."""
    path = project / "params.yaml"
    document = profile.read(path)
    change(document)
    path.write_text(profile.text(document), encoding="utf-8")


def copy(folder: Path) -> None:
    """Make a folder a project as a fresh clone has it, its data not there yet."""
    for name in ("datagen", "curate", "train", "schemas", "profiles", ".dvc"):
        ignored = shutil.ignore_patterns("__pycache__", "cache", "tmp")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project in a folder with a space in its name, reproduced once from nothing."""
    folder = tmp_path_factory.mktemp("a project")
    copy(folder)

    def small(document: Any) -> None:
        for slug in set(document["topics"]) - set(TOPICS):
            del document["topics"][slug]
        for topic in document["topics"].values():
            topic["samples"] = 3
        document.update(profile.merged(document, SMALL))

    rewrite(folder, small)
    printed = dvc(folder, "repro")
    wanted = {"generate@economy", "validate", "sft@plain", "grpo", "predict@reasoning", "score", "report", "progress"}
    wanted |= {"mix@mathematics", "author_grpo@mathematics", "author_report@mathematics"}
    assert wanted <= stages_run(printed)
    return folder


def test_one_command_ends_in_checked_submissions_and_a_score_for_every_variant(project: Path) -> None:
    with open(project / "data/sets/test/test.csv", encoding="utf-8", newline="") as file:
        asked = [row["id"] for row in csv.DictReader(file)]

    score = json.loads((project / "metrics/score.json").read_text("utf-8"))
    assert set(score["variants"]) == {"plain", "reasoning", "dpo", "grpo"}
    for variant in score["variants"]:
        with open(project / f"submissions/{variant}/submission.csv", encoding="utf-8", newline="") as file:
            handed_in = list(csv.DictReader(file))
        assert sorted(row["id"] for row in handed_in) == sorted(asked)
        assert {row["answer"] for row in handed_in} <= set("ABCD")
        assert (project / f"submissions/{variant}/detailed_results.csv").is_file()


def treaty(n: int) -> list[str]:
    """A made-up question, its options and its answer."""
    name = "甲乙丙丁戊己庚辛壬癸"[n // 10] + "子丑寅卯辰巳午未申酉"[n % 10]
    years = [f"{1700 + 3 * n + 17 * step}年" for step in range(4)]
    return [f"《{name}公约》是在哪一年签署的？", *years, "ABCD"[n % 4]]


def own_files(project: Path) -> None:
    """64 questions as TSV, and a test of 20 as CSV, which asks four of them."""
    options = [f"option_{letter}" for letter in "ABCD"]
    with open(project / "my.tsv", "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, delimiter="\t")
        out.writerow(["question", *options, "correct_answer", "reasoning"])
        for question, *rest, answer in map(treaty, range(64)):
            year = rest["ABCD".index(answer)]
            out.writerow([question, *rest, answer, f"{question[:6]}于{year}签署。\n因此选{answer}。"])
    with open(project / "curate/exam/my.csv", "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "question", *options, "answer", "topic"])
        out.writerows([f"mine-{n}", *treaty(n), "treaties"] for n in range(60, 80))


def test_a_users_own_questions_and_test_go_through_without_a_teacher(tmp_path: Path) -> None:
    """Its plain variant alone: the others differ in `train` only."""

    def ours(*words: str) -> None:
        subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, check=True, capture_output=True)

    def small(document: Any) -> None:
        for slug in set(document["topics"]) - set(TOPICS):
            del document["topics"][slug]
        document.update(profile.merged(document, {name: SMALL[name] for name in ("split", "base", "sft")}))
        document["teachers"]["main"]["base_url"] = "http://127.0.0.1:9/v1"  # nobody answers there

    copy(tmp_path)
    own_files(tmp_path)
    ours("schemas.profile", "profiles/own.yaml", "--write")
    rewrite(tmp_path, small)
    ours("curate", "import", "my.tsv", "economy", "--difficulty", "basic", "--type", "factual")

    dvc(tmp_path, "repro", "submission@plain", "improve", "vary", "contrast", "translate")
    ours("train.score", "data/sets/key/key.csv", "metrics/score.json", "plain=submissions/plain")

    numbers = {name: json.loads((tmp_path / f"metrics/{name}.json").read_text("utf-8")) for name in ("split", "score")}
    assert (numbers["split"]["records"], numbers["split"]["test"]) == (60, 0)
    with open(tmp_path / "submissions/plain/submission.csv", encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [f"mine-{n}" for n in range(60, 80)]
    score = numbers["score"]["variants"]["plain"]
    assert (score["n"], score["by_topic"]["treaties"]["n"]) == (20, 20)
    with contextlib.closing(sqlite3.connect(tmp_path / ".store/responses.sqlite")) as store:
        assert store.execute("SELECT count(*) FROM attempts").fetchone() == (0,)


def test_a_second_run_has_nothing_to_do(project: Path) -> None:
    assert "up to date" in dvc(project, "repro")


@pytest.fixture(scope="module")
def two_versions(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project under git, and a commit on: more test questions, reported without training anew."""
    folder = tmp_path_factory.mktemp("versions") / "project"
    shutil.copytree(project, folder, symlinks=True)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    rewrite(folder, lambda document: document["split"].update(test=0.4))
    dvc(folder, "repro", "--single-item", "split", "report")
    git(folder, "commit", "--quiet", "--all", "--message", "more to test on")
    return folder


def git(folder: Path, *words: str) -> None:
    person = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *person, *words], cwd=folder, check=True, capture_output=True)


def document(folder: Path, *words: str) -> Any:
    """Return what DVC says as JSON; it may go on with advice."""
    return json.JSONDecoder().raw_decode(dvc(folder, *words, "--json"))[0]


def test_dvc_shows_and_compares_the_headline_of_a_version(two_versions: Path) -> None:
    shown = document(two_versions, "metrics", "show", "metrics/report.json")
    changed = document(two_versions, "metrics", "diff", "HEAD~1", "--targets", "metrics/report.json")

    headline = json.loads((two_versions / "metrics/report.json").read_text("utf-8"))
    assert shown[""]["data"]["metrics/report.json"]["data"] == {
        name: value for name, value in headline.items() if value is not None
    }
    test = changed["metrics/report.json"]["test"]
    assert test["new"] == headline["test"] > test["old"] > 0
    assert all(not isinstance(value, dict | list) for value in headline.values())


def test_dvc_plots_every_figure_of_both_versions(two_versions: Path) -> None:
    drawn = document(two_versions, "plots", "diff", "HEAD~1")

    assert drawn.get("errors", []) == []
    wanted = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]
    assert list(drawn["data"]) == [name for entry in wanted for name in entry]
    nothing = {"plots/report/repairs.csv", "plots/report/accept.csv"}  # nothing was mended, nobody has reviewed
    for name in set(drawn["data"]) - nothing:
        (plot,) = drawn["data"][name]
        assert set(plot["revisions"]) == {"workspace", "HEAD~1"}, name
        assert plot["content"]["data"]["values"], name


def test_dvc_runs_an_experiment_and_shows_it_beside_the_others(two_versions: Path) -> None:
    seed = YAML(typ="safe", pure=True).load((two_versions / "params.yaml").read_text("utf-8"))["split"]["seed"]
    ran = dvc(two_versions, "exp", "run", "--name", "other-sides", "--set-param", f"split.seed={seed + 1}", "split")

    assert stages_run(ran) >= {"split"}
    _, head = document(two_versions, "exp", "show")
    (experiment,) = (revision for run in head["experiments"] for revision in run["revs"])
    assert experiment["name"] == "other-sides"
    assert experiment["data"]["params"]["params.yaml"]["data"]["split"]["seed"] == seed + 1
    assert (
        experiment["data"]["metrics"]["metrics/split.json"]["data"]
        != head["data"]["metrics"]["metrics/split.json"]["data"]
    )


def test_a_topics_setting_asks_for_that_topic_alone(project: Path) -> None:
    before = (project / "params.yaml").read_text("utf-8")
    rewrite(project, lambda document: document["topics"]["economy"].update(samples=4))

    would_run = stages_run(dvc(project, "repro", "--dry"))
    (project / "params.yaml").write_text(before, encoding="utf-8")

    assert {stage for stage in would_run if stage.startswith("generate@")} == {"generate@economy"}


def test_one_switch_leaves_the_author_out_and_the_solver_as_it_was(project: Path) -> None:
    before = (project / "params.yaml").read_text("utf-8")
    rewrite(project, lambda document: document.update(authors=[]))

    stages = {line.split()[0] for line in dvc(project, "stage", "list").splitlines()}
    would_run = stages_run(dvc(project, "repro", "--dry"))
    (project / "params.yaml").write_text(before, encoding="utf-8")

    assert "sft@plain" in stages
    assert not {stage for stage in stages if stage.startswith(("author", "mix"))}
    assert not would_run


def test_one_topic_is_made_anew_and_the_others_keep_their_bytes(project: Path) -> None:
    before = {topic: (project / f"data/responses/{topic}.jsonl").read_bytes() for topic in TOPICS}

    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "datagen", "regen", "environment", "--no-repro"]
    subprocess.run(command, cwd=project, env=env, check=True, capture_output=True)
    ran = stages_run(dvc(project, "repro", "convert"))

    assert ran >= {"generate@environment", "validate", "dedup", "decontaminate", "gate", "balance", "split", "convert"}
    assert {stage for stage in ran if stage.startswith("generate@")} == {"generate@environment"}
    after = {topic: (project / f"data/responses/{topic}.jsonl").read_bytes() for topic in TOPICS}
    assert {topic for topic in TOPICS if after[topic] != before[topic]} == {"environment"}


def test_a_removed_topic_leaves_the_data(project: Path) -> None:
    rewrite(project, lambda document: document["topics"].pop("education"))

    dvc(project, "repro", "validate")

    topics = {json.loads(line)["topic"] for line in (project / "data/validated.jsonl").read_bytes().splitlines()}
    assert topics == set(TOPICS) - {"education"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda d: d.update(dedupp=d.pop("dedup")), "params.yaml: dedupp: unknown section; did you mean 'dedup'?"),
        (lambda d: d["dedup"].pop("body"), "params.yaml: dedup: Object missing required field `body`"),
        (lambda d: d["dedup"].update(bodi=0.9), "params.yaml: dedup: Object contains unknown field `bodi`"),
        (lambda d: d["dedup"].update(body="high"), "params.yaml: dedup.body: Expected `float`, got `str`"),
        (lambda d: d["topics"].update({"../evil": d["topics"]["economy"]}), "params.yaml: topics.../evil: a slug"),
    ],
)
def test_a_wrong_line_of_params_is_named(project: Path, change: Any, line: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((project / "params.yaml").read_text("utf-8"), encoding="utf-8")
    rewrite(tmp_path, change)
    files = ["in.jsonl", "out.jsonl", "rejects.jsonl", "metrics.json"]
    stage = ["curate.validate", "responses", *files[1:]] if "topics" in line else ["curate.dedup", *files]

    done = subprocess.run(
        [sys.executable, "-m", *stage],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_each_stage_is_one_word_everywhere() -> None:
    """The stage, its params section, its module and its tests bear one name; three stages have no values to set."""
    yaml = YAML(typ="safe", pure=True)
    stages = yaml.load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    sections = yaml.load((ROOT / "params.yaml").read_text("utf-8"))

    for name, stage in stages.items():
        command = stage.get("do", stage)["cmd"]
        package = command.split()[2].partition(".")[0]
        assert command.startswith(f"python -m {package}.{name} ")
        assert (ROOT / package / f"{name}.py").is_file()
        assert (ROOT / "tests" / package / f"test_{name}.py").is_file()
        assert name in sections or name in {"submission", "report", "progress"}
    shared = {
        "topics",
        "difficulties",
        "types",
        "prompts",
        "teachers",
        "limits",
        "budget",
        "prices",
        "workers",
        "review",
        "authors",
    }
    assert set(sections) - set(stages) == shared


def test_a_stage_depends_on_the_code_it_imports() -> None:
    """A module that a stage imports from its own package is among its deps, or a change of it would not be rerun."""
    yaml = YAML(typ="safe", pure=True)
    stages = yaml.load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]

    for name, stage in stages.items():
        body = stage.get("do", stage)
        package = body["cmd"].split()[2].partition(".")[0]
        source = (ROOT / package / f"{name}.py").read_text("utf-8")
        imported = {
            word
            for line in source.splitlines()
            if line.lstrip().startswith(f"from {package} import ")
            for word in line.split(" import ")[1].replace(" as ", " ").replace(",", " ").split()
        } | {line.split()[1].partition(".")[2] for line in source.splitlines() if line.startswith(f"from {package}.")}
        wanted = {f"{package}/{word}.py" for word in imported if (ROOT / package / f"{word}.py").is_file()}
        assert wanted | {f"{package}/{name}.py"} <= set(body["deps"]), name
