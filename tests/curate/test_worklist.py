import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from curate.worklist import main
from schemas.record import Again, Reject
from schemas.rows import read, write
from tests.curate.builders import a_response

STAGES = ("validate", "dedup", "decontaminate", "gate", "balance", "split", "pairs")


def a_reject(id_: str, stage: str, reason: str = "duplicate", topic: str = "environment", kept: str | None = None):
    return Reject(id=id_, topic=topic, stage=stage, reason=reason, detail="why", kept=kept, raw='{"id":"9"}')


def responses(topic: str, ids: str, **changes: object) -> list:
    return [a_response(id=id_, topic=topic, sample=sample, round=2, **changes) for sample, id_ in enumerate(ids)]


@pytest.fixture
def project(a_project, monkeypatch):
    """Eight rows of one topic, half of them dropped, none of them by a stage of its own number."""
    monkeypatch.chdir(a_project)
    write("data/responses/environment.jsonl", responses("environment", "12345678"))
    rejects = {
        "validate": [a_reject("7", "validate", "not_xml"), a_reject("2", "validate", "steps")],
        "dedup": [a_reject("5", "dedup", kept="1"), a_reject("3", "dedup", "conflict", kept="1")],
        "balance": [a_reject("8", "balance", "cell_full")],
    }
    for stage in STAGES:
        write(f"data/rejects/{stage}.jsonl", rejects.get(stage, []))
    return a_project


def run(*args: str):
    return CliRunner().invoke(main, ["out.jsonl", *args])


def listed() -> list[str]:
    return [row.id for row in read("out.jsonl", Again)]


def test_dropped_replies_are_listed_in_grid_order_with_their_place_and_why(project):
    result = run()

    assert result.output == (
        "worklist: 4 to ask again (validate: steps 1, dedup: conflict 1, dedup: duplicate 1, validate: not_xml 1)\n"
    )
    assert listed() == ["2", "3", "5", "7"]
    assert next(read("out.jsonl", Again)) == Again(
        id="2",
        topic="environment",
        difficulty="basic",
        type="factual",
        sample=1,
        round=2,
        reason="steps",
        detail="why",
    )


@pytest.mark.parametrize(("stage", "ids"), [*((s, ["4"]) for s in STAGES[:4]), *((s, []) for s in STAGES[4:])])
def test_only_stages_that_lose_the_bank_a_question_are_listed(project, stage, ids):
    for name in STAGES:
        write(f"data/rejects/{name}.jsonl", [a_reject("4", stage)] if name == stage else [])

    run()

    assert listed() == ids


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        (["--stage", "dedup"], ["3", "5"]),
        (["--stage", "dedup", "--stage", "validate"], ["2", "3", "5", "7"]),
        (["--reason", "not_xml"], ["7"]),
        (["--reason", "not_xml", "--reason", "conflict"], ["3", "7"]),
        (["--stage", "gate"], []),
    ],
)
def test_stages_and_reasons_can_be_chosen(project, args, ids):
    assert run(*args).exit_code == 0
    assert listed() == ids


def test_a_row_that_two_stages_dropped_is_listed_once_for_the_first(project):
    write("data/rejects/gate.jsonl", [a_reject("3", "gate", "mark")])

    run()

    assert [(row.id, row.reason) for row in read("out.jsonl", Again)][1] == ("3", "conflict")
    assert len(listed()) == 4


def test_the_topics_come_in_the_order_of_params(project):
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("topics:\n", "topics:\n  zoology: {name: 动物, samples: 1, round: 0}\n"), "utf-8")
    write("data/responses/zoology.jsonl", responses("zoology", "ab"))
    write("data/rejects/gate.jsonl", [a_reject("b", "gate", topic="zoology")])

    run()

    assert listed() == ["b", "2", "3", "5", "7"]


def test_imported_rows_cannot_be_asked_again_and_are_counted(project):
    write("data/responses/environment.jsonl", responses("environment", "123456"))
    write("curate/imported/environment.own.jsonl", responses("environment", "78", teacher="import own.tsv"))

    result = run()

    assert listed() == ["2", "3", "5"]
    assert "worklist: 1 more were imported; mend them in your file, then import it again\n" in result.output


def test_rows_whose_response_is_gone_are_counted(project):
    rows = responses("environment", "12345678")
    write("data/responses/environment.jsonl", [*rows[:2], replace(rows[2], id="new"), *rows[3:]])

    result = run()

    assert listed() == ["2", "5", "7"]
    assert "worklist: 1 more are not among the responses of params.yaml's topics; run `dvc repro`\n" in result.output


def test_nothing_dropped_is_an_empty_list(project):
    for stage in STAGES:
        write(f"data/rejects/{stage}.jsonl", [])

    assert run().output == "worklist: 0 to ask again\n"
    assert listed() == []


@pytest.mark.parametrize(
    ("args", "broken", "message"),
    [
        (["--reason", "no_xml"], None, "--reason no_xml: no row was dropped for it; the reasons are: "),
        (
            ["--stage", "gate", "--reason", "steps"],
            None,
            "--reason steps: no row was dropped for it; the reasons are: none",
        ),
        ([], "rejects/gate.jsonl", "data/rejects/gate.jsonl:1: "),
        ([], "responses/environment.jsonl", "data/responses/environment.jsonl:1: "),
    ],
)
def test_what_cannot_be_listed_is_one_line_and_leaves_no_file(project, args, broken, message):
    if broken:
        (project / "data" / broken).write_text('{"id":1}\n')

    result = run(*args)

    assert result.exit_code == 1
    assert result.output.startswith(message)
    assert result.output.count("\n") == 1
    assert not (project / "out.jsonl").exists()


@pytest.mark.parametrize("missing", ["rejects/gate.jsonl", "responses/environment.jsonl"])
def test_a_stage_that_has_not_run_is_said(project, missing):
    (project / "data" / missing).unlink()

    assert run().output == f"data/{missing}: No such file or directory; an earlier stage writes it, run `dvc repro`\n"
