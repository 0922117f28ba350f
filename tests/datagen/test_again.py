"""What curation dropped is asked for again: by hand, by the commands, against a teacher that counts."""

import re

import pytest
from click.testing import CliRunner

from curate.__main__ import main as curate
from curate.worklist import STAGES
from datagen.again import merged
from datagen.grid import AGAIN
from datagen.teacher.server import create_app
from schemas import rows
from schemas.record import Again, Reject, Response
from tests.datagen.conftest import CALLS


def an_again(**changed: object) -> Again:
    usual = {"topic": "economy", "difficulty": "basic", "type": "factual", "sample": 0, "round": 0}
    return Again(**({"id": "0" * 16, "reason": "duplicate", "detail": "the same"} | usual | changed))


def the_rows(project) -> list[Response]:
    return list(rows.read(project.out, Response))


def a_worklist(project, *dropped: Response) -> str:
    """The path of the work list that `curate worklist` makes when dedup has dropped these responses."""
    rejects = [
        Reject(id=row.id, topic=row.topic, stage="dedup", reason="duplicate", detail="", kept="1", raw=row.content)
        for row in dropped
    ]
    for stage in STAGES:
        rows.write(f"data/rejects/{stage}.jsonl", rejects if stage == "dedup" else [])
    rows.write("data/responses/economy.jsonl", the_rows(project))
    rows.write("data/responses/education.jsonl", [])
    result = CliRunner().invoke(curate, ["worklist", "list.jsonl"])
    assert result.output.startswith(f"worklist: {len(dropped)} to ask again"), result.output
    return "list.jsonl"


def again(project, *dropped: Response):
    return project.invoke("again", a_worklist(project, *dropped), "--no-repro")


# --- asking ----------------------------------------------------------------------------------------------------------


def test_what_was_dropped_and_nothing_else_is_asked_again_once_more_each_time_it_is_dropped(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()
    project.invoke("generate", "education", "education.jsonl", "education.json")
    other = (project.folder / "education.jsonl").read_bytes()
    first = the_rows(project)

    assert again(project, first[7], first[2]).stderr == "again: 2 of 2 requests to ask again\n"
    assert "12 of 12 valid, 0 rejected, 2 asked now" in project.generate().stderr
    second = the_rows(project)

    assert [row.round for row in second] == [1 if number in (2, 7) else 0 for number in range(CALLS)]
    assert [number for number in range(CALLS) if second[number] != first[number]] == [2, 7]
    assert {second[2].content, second[7].content}.isdisjoint({first[2].content, first[7].content})
    assert {second[2].id, second[7].id}.isdisjoint(row.id for row in first)
    assert teacher.calls.total() == 2 * CALLS + 2

    again(project, second[7])
    assert "1 asked now" in project.generate().stderr
    third = the_rows(project)

    assert [row.round for row in third] == [{2: 1, 7: 2}.get(number, 0) for number in range(CALLS)]
    assert [number for number in range(CALLS) if third[number] != second[number]] == [7]
    project.invoke("generate", "education", "education.jsonl", "education.json")
    assert (project.folder / "education.jsonl").read_bytes() == other
    assert teacher.calls.total() == 2 * CALLS + 3


def test_a_list_asks_once_however_often_it_is_given(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()
    first = the_rows(project)
    again(project, first[0])
    project.generate()
    before = AGAIN.read_bytes(), project.out.read_bytes()

    result = project.invoke("again", "list.jsonl", "--no-repro")

    assert result.stderr == "again: 0 of 1 requests to ask again; 1 are asked in a later round already\n"
    assert "0 asked now" in project.generate().stderr
    assert (AGAIN.read_bytes(), project.out.read_bytes()) == before
    assert teacher.calls.total() == CALLS + 1


def test_taking_a_row_out_of_the_file_brings_the_old_reply_back_for_nothing(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()
    before = project.out.read_bytes()
    again(project, the_rows(project)[0])
    project.generate()

    AGAIN.write_bytes(b"")

    assert "0 asked now" in project.generate().stderr
    assert project.out.read_bytes() == before
    assert teacher.calls.total() == CALLS + 1


def test_a_run_that_is_killed_has_paid_for_what_it_got(project, serve, until):
    inner = create_app()

    async def slow_at_the_last(scope, receive, send):
        if inner.calls.total() == CALLS + 1 and not released:
            waiting.append(1)
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await inner(scope, receive, send)

    waiting: list[int] = []
    released: list[int] = []
    project.params(base_url=serve(slow_at_the_last)[1], concurrency=1, timeout=60)
    project.generate()
    first = the_rows(project)
    again(project, first[2], first[7])
    process = project.start("generate", "economy", str(project.out), str(project.metrics))
    until(lambda: waiting)
    process.kill()
    process.communicate()
    released.append(1)

    assert "12 of 12 valid, 0 rejected, 1 asked now" in project.generate().stderr

    assert inner.calls.total() == CALLS + 2
    assert [row.round for row in the_rows(project)].count(1) == 2


def test_a_raised_round_asks_everything_anew_whatever_was_asked_again(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()
    again(project, the_rows(project)[0])
    project.generate()

    result = project.invoke("regen", "economy", "--no-repro")

    assert result.stderr == "regen: economy is at round 2\n"  # 1 is what the listed request was asked in
    assert "12 asked now" in project.generate().stderr
    assert {row.round for row in the_rows(project)} == {2}
    assert teacher.calls.total() == 2 * CALLS + 1


def test_all_commands_that_look_at_the_grid_agree(project):
    project.invoke("fetch")
    project.generate()

    again(project, *the_rows(project)[:2])

    def words(command: str, *more: str) -> list[str]:
        return re.search(r"^economy +(.*)$", project.invoke(command, *more).stdout, re.MULTILINE)[1].split()

    assert words("plan")[1:] == ["12", "10", "2"]
    assert words("status")[:4] == ["12", "10", "0", "2"]
    assert project.invoke("fetch").stderr.startswith("fetch: 24 of 24 valid, 0 rejected, 0 without a reply, 2 asked")
    assert "0 asked now" in project.generate().stderr


# --- the list --------------------------------------------------------------------------------------------------------


def test_the_file_is_sorted_and_holds_the_latest_round_of_each_request():
    old = [an_again(topic="education"), an_again(sample=2, round=3)]
    new = [an_again(sample=10), an_again(sample=2, round=4), an_again(sample=2, round=1), an_again(type="evaluative")]

    found = merged(old, new)

    assert [(row.topic, row.type, row.sample, row.round) for row in found] == [
        ("economy", "evaluative", 0, 0),
        ("economy", "factual", 2, 4),
        ("economy", "factual", 10, 0),
        ("education", "factual", 0, 0),
    ]
    assert merged(found, new) == merged(new, old) == found


@pytest.mark.parametrize(
    "changed", [{"topic": "elsewhere"}, {"difficulty": "absurd"}, {"type": "odd"}, {"sample": 3}], ids=str
)
def test_what_the_grid_no_longer_has_is_said_and_not_listed(project, changed):
    rows.write("list.jsonl", [an_again(), an_again(**changed)])

    result = project.invoke("again", "list.jsonl", "--no-repro")

    assert result.stderr == ("again: 1 of 2 requests to ask again; 1 are no longer in the grid of params.yaml\n")
    assert list(rows.read(AGAIN, Again)) == [an_again()]


def test_a_dry_run_says_what_it_would_cost_and_changes_nothing(project):
    project.generate()
    listed = a_worklist(project, *the_rows(project)[:3])
    before = sorted(project.folder.rglob("*"))

    result = project.invoke("again", listed, "--dry")

    assert re.fullmatch(
        r"again: 3 of 3 requests to ask again\nagain: about [\d,]+ tokens ± \d+%, cost 0\.0\d, .* 12 such requests\n",
        result.stderr,
    )
    assert sorted(project.folder.rglob("*")) == before


def test_a_missing_work_list_is_one_line(project):
    result = project.invoke("again", "list.jsonl", "--no-repro")

    assert result.exit_code == 1
    assert result.stderr.startswith("list.jsonl: No such file or directory; ")
    assert not AGAIN.exists()


# --- what follows ----------------------------------------------------------------------------------------------------


def a_dvc(project) -> None:
    """A `dvc` that writes down its words and fails."""
    bin_ = project.folder / "bin"
    bin_.mkdir()
    (bin_ / "dvc").write_text('#!/bin/sh\necho "$@" > asked\nexit 7\n')
    (bin_ / "dvc").chmod(0o755)
    project.monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")


def test_dvc_rebuilds_the_topics_of_the_list_and_what_follows_also_when_the_list_is_given_again(project):
    a_dvc(project)
    rows.write("list.jsonl", [an_again(topic="education"), an_again(), an_again(sample=1)])

    for _ in range(2):
        result = project.invoke("again", "list.jsonl")

        assert (project.folder / "asked").read_text() == "repro --downstream generate@economy generate@education\n"
        assert result.exit_code == 7
        (project.folder / "asked").unlink()


@pytest.mark.parametrize("listed", [[], [an_again(topic="elsewhere")]])
def test_dvc_is_not_troubled_for_nothing(project, listed):
    a_dvc(project)
    rows.write("list.jsonl", listed)

    assert project.invoke("again", "list.jsonl").exit_code == 0
    assert not (project.folder / "asked").exists()
    assert not AGAIN.exists()


def test_without_dvc_it_says_what_to_run(project):
    project.monkeypatch.setenv("PATH", "")
    rows.write("list.jsonl", [an_again()])

    result = project.invoke("again", "list.jsonl")

    assert result.exit_code == 1
    assert "run `dvc repro --downstream generate@economy`" in result.stderr
    assert list(rows.read(AGAIN, Again)) == [an_again()]
