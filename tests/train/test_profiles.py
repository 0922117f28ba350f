import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas import profile
from train import check

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))


@pytest.fixture(params=[None, *PROFILES], ids=lambda path: path.stem if path else "default")
def merged(request, tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(PARAMS, path)
    if request.param:
        done = CliRunner().invoke(profile.main, [str(request.param), "--params", str(path), "--write"])
        assert done.exit_code == 0, done.output
    return path


def test_every_stage_reads_it_and_trl_takes_its_settings(merged):
    shutil.copy(ROOT / "dvc.yaml", merged.parent)
    shutil.copytree(ROOT / "profiles", merged.parent / "profiles")
    with chdir(merged.parent):
        done = CliRunner().invoke(check.main, [])

    # What there is no file of yet is no fault.
    assert done.exit_code == 0, done.output


def test_the_file_keeps_its_layout_and_comments():
    assert profile.text(profile.read(PARAMS)) == PARAMS.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_says_only_what_differs(path):
    params = profile.read(PARAMS)

    for key, value in leaves(profile.read(path)):
        if ".trainer." not in key:
            assert next(profile.changes(at(params, key), value), None), f"{key} is the default already"


def leaves(mapping, path=""):
    for key, value in mapping.items():
        if isinstance(value, dict) and key not in (*profile.REPLACED, "lora"):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def at(mapping, path):
    for key in path.split("."):
        mapping = mapping.get(key, {})
    return mapping


def test_what_changes_is_shown_and_a_trainer_is_taken_whole(tmp_path):
    params, path = tmp_path / "params.yaml", tmp_path / "p.yaml"
    params.write_text("a:\n  x: 1 # why\n  trainer: {use_cpu: true, lr: 1}\n")
    path.write_text("a: {x: 2, trainer: {lr: 2}}\n")

    shown = CliRunner().invoke(profile.main, [str(path), "--params", str(params)])

    assert shown.output.splitlines()[:3] == ["a.x: 1 → 2", "a.trainer.use_cpu: True → -", "a.trainer.lr: 1 → 2"]
    assert "# why" in params.read_text()
    CliRunner().invoke(profile.main, [str(path), "--params", str(params), "--write"])
    assert params.read_text() == "a:\n  x: 2 # why\n  trainer: {lr: 2}\n"


def test_a_section_that_nobody_has_is_named(tmp_path):
    params, path = tmp_path / "params.yaml", tmp_path / "p.yaml"
    params.write_text("generate: {x: 1}\n")
    path.write_text("generat: {x: 2}\n")

    shown = CliRunner().invoke(profile.main, [str(path), "--params", str(params)])

    assert shown.exit_code == 1
    assert "did you mean 'generate'" in shown.output
