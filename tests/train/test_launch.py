import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.faults import Fault
from train import launch

ROOT = Path(__file__).parents[2]
SETS = ("data/sft.reasoning.train.jsonl", "data/sft.reasoning.validation.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "nothing.yaml: .*No such file"),
        ("a: [", "nothing.yaml: .*; write one by `accelerate config`"),
        ("num_processes: 2", "says no distributed_type"),
        ("distributed_type: FSDP", "take profiles/accelerate/ddp.yaml"),
        ("distributed_type: DEEPSPEED", "spreads the weights over the GPUs"),
    ],
)
def test_a_file_that_cannot_work_is_told_before_anything_is_started(tmp_path, text, words):
    file = tmp_path / "nothing.yaml"
    if text:
        file.write_text(text)

    with pytest.raises(Fault, match=words):
        launch.launch(str(file), "train.grpo", whole=True)


def test_without_a_file_and_in_a_process_that_was_launched_the_stage_goes_on(monkeypatch, tmp_path):
    launch.launch(None, "train.grpo", whole=True)
    monkeypatch.setenv("QUESTION_BANK_LAUNCHED", "1")
    launch.launch(str(tmp_path / "nothing.yaml"), "train.grpo", whole=True)

    assert launch.launcher() == os.getppid()


def test_a_stage_starts_itself_again_with_its_own_arguments(tmp_path):
    (tmp_path / "one.yaml").write_text("distributed_type: 'NO'\nuse_cpu: true\nnum_processes: 1\n")
    (tmp_path / "stage.py").write_text(
        "import os, sys\nfrom train.launch import first, launch\n"
        "launch('one.yaml', 'stage', *sys.argv[1:], whole=True)\n"
        "print(os.environ['QUESTION_BANK_LAUNCHED'], first(), *sys.argv[1:])\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    words = [sys.executable, "-m", "stage", "a b", "c"]

    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1:] == ["1 True a b c"], done.stderr


@pytest.mark.parametrize("file", sorted((ROOT / "profiles/accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_files_that_come_with_the_project(file):
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(file)).num_processes == 2


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("train.sft", ("reasoning", *SETS, "models/base", "OUT", "METRICS")),
        ("train.grpo", ("data/prompts.jsonl", "models/base", "OUT", "METRICS")),
    ],
)
def test_two_processes_train_one_model_and_the_first_of_them_writes_it(trained, tmp_path, module, words):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path), "QUESTION_BANK_LAUNCHED": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    places = {"OUT": str(tmp_path / "models/two"), "METRICS": str(tmp_path / "two.json")}
    command += ["-m", module, *(places.get(word, word) for word in words)]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)

    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(Path(places["METRICS"]).read_bytes())["processes"] == 2
    assert Path(places["OUT"], "model.safetensors").is_file()
    assert not [path for path in (tmp_path / "models").iterdir() if path.name.startswith(".")]
