import os
import subprocess
import sys
from pathlib import Path

import pytest

from curate.auditing.revisions import Missing, Version, cache_folder, version
from schemas.faults import Fault
from tests.curate.versions import Project, git


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of two commits, `v1` and `v2`, with the working directory at its root."""
    made = Project(tmp_path / "a project")
    made.commit(
        "v1",
        {"data/train.jsonl": b"old\n", "submissions": {"a.csv": b"1\n", "b/c.csv": b"2\n"}},
        {"params.yaml": "a: 1\n"},
    )
    made.commit("v2", {"data/train.jsonl": b"new\n"}, {"params.yaml": "a: 2\n"})
    monkeypatch.chdir(made.folder)
    for name in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return made


def said(name: str | None, path: str = "data/train.jsonl") -> str:
    with pytest.raises(Fault) as caught:
        version(name).read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "train", "params"),
    [
        ("v1", b"old\n", b"a: 1\n"),
        ("HEAD~1", b"old\n", b"a: 1\n"),
        ("v2", b"new\n", b"a: 2\n"),
        ("main", b"new\n", b"a: 2\n"),
        ("workspace", b"new\n", b"a: 2\n"),
        (None, b"new\n", b"a: 2\n"),
    ],
)
def test_a_version_has_the_outputs_and_the_tracked_files_of_its_time(project: Project, name, train, params):
    found = version(name)

    assert found.read("data/train.jsonl") == train
    assert found.read("params.yaml") == params
    assert found.has("data/train.jsonl") and found.has("dvc.lock") and not found.has("data/test.jsonl")


def test_files_of_an_output_that_is_a_folder_are_found_in_its_listing(project: Project):
    found = version("v1")

    assert found.under("submissions") == ["submissions/a.csv", "submissions/b/c.csv"]
    assert found.read("submissions/b/c.csv") == b"2\n"
    assert found.has("submissions/a.csv") and not found.has("submissions/d.csv")
    assert version("v2").under("submissions") == []


def test_the_workspace_is_what_is_on_disk(project: Project):
    Path("data/train.jsonl").write_bytes(b"mine\n")
    Path("data/train.jsonl.tmp").touch()

    assert version(None).read("data/train.jsonl") == b"mine\n"
    assert version(None).under("data") == ["data/train.jsonl", "data/train.jsonl.tmp"]
    assert version("v2").read("data/train.jsonl") == b"new\n"


def test_tracked_files_have_one_hash_in_a_commit_and_in_the_workspace(project: Project):
    Path("notes").mkdir()
    Path("notes/new.txt").write_text("not added yet")

    assert version("v2").tracked(["params.yaml"]) == version(None).tracked(["params.yaml"])
    assert version("v1").tracked(["params.yaml"]) != version("v2").tracked(["params.yaml"])
    assert set(version(None).tracked(["notes", "params.yaml"])) == {"notes/new.txt", "params.yaml"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mian", "did you mean main"),
        ("v11", "did you mean v1"),
        ("--output=x", "no such revision"),
        ("--help", "no such revision"),
        ("a b\nc", "no such revision"),
        ("", "no such revision"),
        ("v1:params.yaml", "no such revision"),
        ("HEAD~99", "no such revision"),
        ("; rm -rf .", "no such revision"),
    ],
)
def test_an_unknown_revision_is_one_line_with_what_may_have_been_meant(project: Project, name, hint):
    assert hint in said(name)
    assert not Path("x").exists()


def test_an_experiment_goes_by_its_name(project: Project):
    base = git(project.folder, "rev-parse", "v1")
    git(project.folder, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/tried-out", "v1")
    git(project.folder, "update-ref", "refs/exps/exec/EXEC_HEAD", "v2")

    assert version("tried-out").commit == base
    assert "did you mean tried-out" in said("tried-ou")


def test_an_experiments_name_that_two_have_is_not_guessed(project: Project):
    for tag in ("v1", "v2"):
        base = git(project.folder, "rev-parse", tag)
        git(project.folder, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/same", tag)

    assert "2 experiments have this name" in said("same")


def test_outside_of_a_project_the_root_is_named(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project.folder / "data")

    assert f"run the command from {project.folder}" in said("v1")


def test_a_folder_that_git_does_not_know_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert "not a git repository" in said("v1")


def test_a_shallow_clone_is_told_how_to_get_the_rest(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    git(tmp_path, "clone", "--quiet", "--depth", "1", project.folder.as_uri(), "shallow")
    monkeypatch.chdir(tmp_path / "shallow")

    assert "git fetch --unshallow" in said("HEAD~1")


def test_a_revision_before_the_pipeline_says_when_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = Project(tmp_path / "p")
    (made.folder / "README.md").touch()
    git(made.folder, "add", "README.md")
    git(made.folder, "commit", "--quiet", "--message", "Before")
    made.commit("v1", {"data/train.jsonl": b""})
    monkeypatch.chdir(made.folder)

    assert "as of HEAD~1" in said("HEAD~1") and "it has no dvc.lock" in said("HEAD~1")
    assert f"the first is {git(made.folder, 'rev-parse', '--short', 'v1')}" in said("HEAD~1")


@pytest.mark.parametrize("text", ["stages: [", "stages: {split: {outs: 3}}", "- 1\n- 2\n", "a: 1\na: 2\n", "\x00"])
def test_a_broken_lock_is_one_line(project: Project, text):
    Path("dvc.lock").write_text(text)
    git(project.folder, "commit", "--quiet", "--all", "--message", "Broken")

    with pytest.raises(Fault, match=r"^dvc\.lock as of HEAD .*; give another revision$") as caught:
        version("HEAD").open("data/train.jsonl")
    assert "\n" not in str(caught.value)
    with pytest.raises(Fault, match="git checkout"):
        _ = version(None).stages


def test_a_missing_entry_of_the_cache_is_named_with_what_makes_it_anew(project: Project):
    entry = project.entry(version("v1").hash("data/train.jsonl") or "")
    entry.unlink()

    line = said("v1")
    assert "data/train.jsonl as of v1 (" in line and "not in the cache .dvc/cache" in line
    assert "git worktree add" in line and "dvc repro split" in line


def test_a_missing_entry_is_fetched_where_there_is_a_remote(project: Project):
    project.entry(version("v1").hash("data/train.jsonl") or "").unlink()
    Path(".dvc/config.local").write_text("['remote \"store\"']\n    url = /nowhere\n")

    assert "`dvc fetch --all-commits --remote store data/train.jsonl`" in said("v1")
    Path(".dvc/config.local").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = /nowhere\n")
    assert "`dvc fetch --all-commits data/train.jsonl`" in said("v1")


def test_a_remote_that_the_revision_did_not_know_is_set_up_for_it_first(project: Project):
    project.entry(version("v1").hash("data/train.jsonl") or "").unlink()
    Path(".dvc/config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../../kept\n")

    command = "`dvc remote add --local --default --force store ../kept; dvc fetch --all-commits data/train.jsonl`"
    assert command in said("v1")


def test_a_truncated_entry_is_not_taken_for_the_file(project: Project):
    entry = project.entry(version("v1").hash("data/train.jsonl") or "")
    entry.write_bytes(b"o")

    assert "has 1 bytes in place of 4" in said("v1") and "rm -f" in said("v1")


def test_a_truncated_listing_is_said(project: Project):
    listing = next(out for out in version("v1").outs.values() if out.path == "submissions").md5 or ""
    project.entry(listing).write_bytes(b'[{"md5"')

    with pytest.raises(Missing, match="rm -f"):
        version("v1").read("submissions/a.csv")


@pytest.mark.parametrize(
    ("name", "text", "folder"),
    [
        (".dvc/config", "[cache]\n    dir = ../elsewhere\n", "elsewhere"),
        (".dvc/config.local", "[cache]\ndir = /abs/cache\n", "/abs/cache"),
        (".dvc/config", "[core]\n    analytics = false\n", ".dvc/cache"),
    ],
)
def test_the_cache_is_where_the_settings_have_it(project: Project, name, text, folder):
    Path(name).write_text(text)

    assert cache_folder() == Path(folder)


def test_a_cache_of_dvc_2_is_read(project: Project):
    entry = project.entry(version("v1").hash("data/train.jsonl") or "")
    old = project.folder / ".dvc/cache" / entry.parent.name / entry.name
    old.parent.mkdir(parents=True)
    entry.rename(old)

    assert version("v1").read("data/train.jsonl") == b"old\n"


def test_an_output_that_is_gone_from_the_workspace_can_be_checked_out(project: Project):
    Path("data/train.jsonl").unlink()

    assert "`dvc checkout data/train.jsonl` brings it, or `dvc repro split`" in said(None)


def test_stages_behind_what_they_read_are_known():
    found = Version("v", "0" * 40)
    found.stages = _chained("1", "1")  # type: ignore[misc]

    assert found.behind() == set() and found.upstream(["c"]) == {"one", "two"}
    found = Version("v", "0" * 40)
    found.stages = _chained("2", "1")  # type: ignore[misc]
    assert found.behind() == {"two"}


def _chained(written: str, read: str):
    from curate.auditing.revisions import Out, Stage

    one = Stage(deps=(Out("a"),), outs=(Out("b", written),))
    return {"one": one, "two": Stage(deps=(Out("b", read),), outs=(Out("c", "3"),))}


# --- real DVC ------------------------------------------------------------------------------------------------------

PIPELINE = """\
stages:
  make:
    cmd: mkdir -p data/parts && cp source.txt data/made.txt && cp source.txt data/parts/one.txt
    deps: [source.txt]
    params: [mode]
    outs: [data/made.txt, data/parts]
  use:
    cmd: cat data/made.txt data/parts/one.txt > data/used.txt
    deps: [data/made.txt, data/parts]
    outs: [data/used.txt]
"""


def shell(folder: Path, command: str) -> str:
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "n",
        "GIT_AUTHOR_EMAIL": "n@example.org",
        "GIT_COMMITTER_NAME": "n",
        "GIT_COMMITTER_EMAIL": "n@example.org",
    }
    env.pop("DVC_ROOT", None)
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_dvc_itself_writes_loses_and_fetches_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("mode: 1\n")
    (folder / "source.txt").write_text("first\n")
    (folder / ".gitignore").write_text("/data/\n")
    shell(folder, "git init -q; dvc init -q; dvc repro -q; git add -A; git commit -qm one; git tag v1")
    (folder / "source.txt").write_text("second\n")
    shell(folder, "dvc repro -q; git add -A; git commit -qm two; dvc exp run -q -n tried -S mode=2")
    monkeypatch.chdir(folder)

    assert version("v1").read("data/used.txt") == b"first\nfirst\n"
    assert version("HEAD").read("data/parts/one.txt") == b"second\n"
    assert version("v1").under("data") == ["data/made.txt", "data/parts/one.txt", "data/used.txt"]
    assert version("tried").read("params.yaml") == b"mode: 2\n"
    assert version("tried").stages["make"].params == {"params.yaml": {"mode": 2}}
    assert version("HEAD").stages["make"].params == {"params.yaml": {"mode": 1}}

    shell(folder, "dvc gc -q -f -w")
    with pytest.raises(Missing, match="no remote is set up") as caught:
        version("v1").read("data/used.txt")
    shell(folder, str(caught.value).split("`")[1])
    assert version("v1").read("data/used.txt") == b"first\nfirst\n"

    remote = f"dvc remote add -q -d store {tmp_path / 'store'}"  # that no commit knows of
    shell(folder, f"git checkout -q --force v1; dvc checkout -q; {remote}; dvc push -q; git checkout -q -")
    shell(folder, "dvc checkout -q; dvc gc -q -f -w")
    with pytest.raises(Missing, match="dvc fetch") as caught:
        version("v1").read("data/used.txt")
    shell(folder, str(caught.value).split("`")[1])
    assert version("v1").read("data/used.txt") == b"first\nfirst\n"
