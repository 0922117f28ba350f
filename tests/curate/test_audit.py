import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from curate.audit import COLUMNS, lines, main
from curate.auditing.changes import Read, changed_fields, names
from curate.auditing.differences import Compared, differences
from curate.auditing.page import page
from curate.auditing.revisions import version
from curate.decisions import content
from schemas.record import Decision, Record, Reject, Response
from tests.browser import browser, complaints, look, overflows, requests_of, screenshot
from tests.curate.builders import a_record
from tests.curate.versions import Content, Project, a_bank, git, jsonl


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without a commit, with the working directory at its root."""
    made = Project(tmp_path / "p")
    monkeypatch.chdir(made.folder)
    return made


def numbered(number: int, **changes: Any) -> Record:
    """A record of its own, as others are of theirs."""
    fields = {"id": f"{number:016x}", "question": f"第{number}号决议是在哪一年通过的？"}
    return a_record(**(fields | changes))


def banks(project: Project, before: Mapping[str, list[Record]], after: Mapping[str, list[Record]]) -> Compared:
    """The differences of two versions with these records on their sides."""
    project.commit("v1", a_bank(before))
    project.commit("v2", a_bank(after))
    return differences(version("v1"), version("v2"))


def a_reject(record: Record, **changes: Any) -> Reject:
    raw = msgspec.json.encode(record).decode()
    fields = {"stage": "dedup", "reason": "duplicate", "detail": "the same", "kept": "000000000000000f", "raw": raw}
    return Reject(id=record.id, topic=record.topic, **(fields | changes))


def a_response(record: Record) -> Response:
    cell = {name: getattr(record, name) for name in ("id", "topic", "difficulty", "type", "teacher")}
    return Response(**cell, sample=0, round=0, content="", fault=None)


def audit(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def said(compared: Compared) -> str:
    return "\n".join(lines(compared.audit))


# --- records -------------------------------------------------------------------------------------------------------

REORDERED = {"options": ("2018年", "2016年", "2015年", "2012年"), "answer": "C"}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, ()),
        ({"question": "另一问？"}, ("question",)),
        ({"options": ("2012年", "2015年", "2016年", "2019年")}, ("options",)),
        ({"answer": "C"}, ("answer",)),
        ({"think": "另想。"}, ("think",)),
        ({"steps": ("《巴黎协定》于2015年通过。",)}, ("steps",)),
        ({"reflection": ""}, ("reflection",)),
        ({"adjustment": "改。"}, ("adjustment",)),
        ({"topic": "economy", "difficulty": "advanced", "type": "analytical"}, ("topic", "difficulty", "type")),
        ({"teacher": "another", "repairs": ("fence",)}, ("teacher", "repairs")),
        (REORDERED | {"steps": ("《巴黎协定》于2015年通过。", "因此选项C正确。")}, ("options reordered",)),
        (REORDERED | {"steps": ("因此选项C正确。", "《巴黎协定》于2015年通过。")}, ("options reordered",)),
        (REORDERED | {"steps": ("《巴黎协定》于2015年签署。", "因此选项C正确。")}, ("options reordered", "steps")),
        (
            REORDERED | {"answer": "B", "steps": ("《巴黎协定》于2015年通过。", "因此选项B正确。")},
            ("options reordered", "answer"),
        ),
    ],
)
def test_a_change_is_told_field_by_field(changes, fields):
    before, after = (msgspec.convert(msgspec.to_builtins(one), Read) for one in (a_record(), a_record(**changes)))

    assert names(changed_fields(before, after)) == fields


def test_records_are_matched_by_id_then_by_what_they_ask(project: Project):
    before = [numbered(n) for n in range(6)]
    after = [
        before[0],
        numbered(1, think="另想。"),
        numbered(2, id="new-2"),
        numbered(3, id="new-3", reflection="另。"),
        numbered(9),
    ]

    told = banks(project, {"train": before}, {"train": after}).audit

    assert (told.unchanged, told.changed, told.added, told.removed, told.new_id) == (2, 2, 1, 2, 2)
    assert told.fields == {"think": 1, "reflection": 1}


def test_moves_are_told_and_training_questions_that_became_test_questions_are_warned_of(project: Project):
    rows = [numbered(n) for n in range(4)]

    compared = banks(project, {"train": rows[:3], "test": rows[3:]}, {"train": rows[2:], "test": rows[:2]})

    assert compared.audit.moves == {"train → test": 2, "test → train": 1}
    assert (compared.audit.changed, compared.audit.moved, compared.audit.unchanged) == (0, 3, 1)
    assert "2 training questions of v1" in said(compared)


def test_equal_records_are_counted_one_by_one(project: Project):
    twice = [numbered(1), numbered(1), numbered(2)]

    told = banks(project, {"train": twice}, {"train": twice[1:]}).audit

    assert (told.unchanged, told.added, told.removed) == (2, 0, 1)


def test_a_line_that_is_written_otherwise_holds_the_same_record(project: Project):
    row = msgspec.to_builtins(numbered(1))
    other = json.dumps(dict(reversed(row.items()))).encode() + b"\n"
    project.commit("v1", a_bank({"train": [numbered(1)]}))
    project.commit("v2", a_bank({}) | {"data/train.jsonl": other})

    assert differences(version("v1"), version("v2")).audit.unchanged == 1


def test_records_of_an_older_format_are_read_and_said_once(project: Project):
    row = msgspec.to_builtins(numbered(1))
    old = {name: value for name, value in row.items() if name not in ("repairs", "adjustment")} | {"mood": "good"}
    project.commit("v1", a_bank({}) | {"data/train.jsonl": json.dumps(old).encode() + b"\n"})
    project.commit("v2", a_bank({"train": [numbered(1)]}))

    told = differences(version("v1"), version("v2")).audit

    assert told.unchanged == 1
    assert sum("1 records are not as today's are" in note for note in told.notes) == 1


def test_a_line_that_is_no_record_is_one_line_with_its_place(project: Project):
    project.commit("v1", a_bank({}) | {"data/train.jsonl": jsonl([numbered(1)]) + b'{"id": 3\n'})

    result = audit("v1")

    assert result.exit_code == 1
    assert result.output.startswith("v1 (") and "data/train.jsonl:2: " in result.output
    assert result.output.count("\n") == 1


def test_cells_add_up_to_topics(project: Project):
    before = [numbered(n, topic=topic) for n, topic in enumerate(["economy", "economy", "law"])]
    after = [numbered(0, topic="economy", answer="A"), numbered(7, topic="law", type="analytical")]

    told = banks(project, {"train": before}, {"train": after}).audit

    assert [(one.name, one.before, one.after, one.added, one.removed, one.changed) for one in told.topics] == [
        (("economy",), 2, 1, 0, 1, 1),
        (("law",), 1, 1, 1, 1, 0),
    ]
    assert {one.name: one.added for one in told.cells if one.added} == {("law", "basic", "analytical"): 1}


# --- why -----------------------------------------------------------------------------------------------------------


def test_the_removed_are_told_with_what_became_of_them(project: Project):
    rows = [numbered(n) for n in range(5)]
    anew = numbered(1, id="new-id")
    after = {
        **a_bank({"train": rows[:1]}),
        "data/rejects/dedup.jsonl": jsonl([a_reject(anew), a_reject(rows[2], reason="near_duplicate")]),
        "data/rejects/pairs.jsonl": jsonl([a_reject(rows[0], stage="pairs", reason="too_long")]),
        "data/responses/environment.jsonl": jsonl(map(a_response, [rows[0], anew, rows[2], rows[4]])),
    }
    project.commit("v1", a_bank({"train": rows}))
    project.commit("v2", after)

    compared = differences(version("v1"), version("v2"))

    assert compared.audit.rejected == {
        "dedup: duplicate": 1,
        "dedup: near_duplicate": 1,
        "not asked": 1,
        "not known": 1,
    }
    assert compared.gone[0].kept == "000000000000000f"
    assert compared.audit.after.rejects == {
        "dedup": {"duplicate": 1, "near_duplicate": 1},
        "pairs": {"too_long": 1},
    }


def test_the_added_are_told_with_what_they_had_been(project: Project):
    rows = [numbered(n) for n in range(3)]
    project.commit(
        "v1",
        a_bank({"train": rows[:1]})
        | {
            "data/rejects/gate.jsonl": jsonl([a_reject(rows[1], stage="gate", reason="marked_low")]),
            "data/responses/environment.jsonl": jsonl(map(a_response, rows[:2])),
        },
    )
    project.commit("v2", a_bank({"train": rows}))

    assert differences(version("v1"), version("v2")).audit.returned == {"gate: marked_low": 1, "not asked": 1}


PARAMS = """\
topics:
  economy: {{name: 经济, samples: 3, round: {round}}}
  law: {{name: 法律, samples: 3, round: 0}}
dedup: {{question: {question}}}
sft: {{rate: {rate}}}
limits: {{rpm: {rpm}}}
"""
FACTS = "datagen/teacher/facts"


def with_causes(project: Project, tag: str, rows: list[Record], *, run: bool = True, **values: Any) -> None:
    """A commit with `values` in place of some settings and files, and what it holds made with them if they ran."""
    settings = {"round": 0, "question": 0.9, "rate": 0.1, "rpm": "null"} | values
    made = settings if run else {"round": 0, "question": 0.9}
    tracked = {
        "params.yaml": PARAMS.format(**settings),
        f"{FACTS}/law.yaml": settings.get("law", "- a\n- b\n"),
        "datagen/templates/write.j2": settings.get("write", "Write."),
        "curate/dedup.py": settings.get("code", "# code"),
        "curate/imported/law.own.jsonl": settings.get("own", "{}"),
        "curate/exam/my.csv": settings.get("exam", "id"),
    }
    topics = {
        "economy": {"name": "经济", "samples": 3, "round": made["round"]},
        "law": {"name": "法律", "samples": 3, "round": 0},
    }
    params = {"topics": topics, "dedup": {"question": made["question"]}}
    deps = [FACTS, "datagen/templates", "curate/dedup.py", "curate/imported", "curate/exam"]
    project.commit(tag, a_bank({"train": rows}), tracked, deps, params)


def test_a_topics_round_explains_that_topic_and_no_other(project: Project):
    rows = [numbered(n, topic="economy") for n in range(3)]
    with_causes(project, "v1", rows)
    with_causes(project, "v2", [*rows[:2], numbered(8, topic="law")], round=1)

    told = differences(version("v1"), version("v2")).audit

    (cause,) = told.causes
    assert (cause.what, cause.before, cause.after, cause.topics) == ("topics.economy.round", "0", "1", ("economy",))
    assert {one.topic: (one.own, one.common, one.across) for one in told.explained} == {
        "economy": (("topics.economy.round",), False, False),
        "law": ((), False, True),
    }


@pytest.mark.parametrize(
    ("values", "kind", "what", "topics", "reach"),
    [
        ({"question": 0.8}, "param", "dedup.question", None, "bank"),
        ({"law": "- a\n- c\n"}, "facts", f"{FACTS}/law.yaml", ("law",), "bank"),
        ({"write": "Write well."}, "prompt", "datagen/templates/write.j2", None, "bank"),
        ({"code": "# better"}, "code", "curate/dedup.py", None, "bank"),
        ({"own": "{ }"}, "imported", "curate/imported/law.own.jsonl", ("law",), "bank"),
        ({"exam": "id,"}, "exam", "curate/exam/my.csv", None, "bank"),
        ({"rpm": 3}, "param", "limits.rpm", None, "nothing"),
    ],
)
def test_what_differs_is_told_with_its_topics_and_its_reach(project: Project, values, kind, what, topics, reach):
    with_causes(project, "v1", [numbered(1)])
    with_causes(project, "v2", [numbered(1)], **values)

    (cause,) = differences(version("v1"), version("v2")).audit.causes

    assert (cause.kind, cause.what, cause.topics, cause.reach, cause.ran) == (kind, what, topics, reach, True)


def test_the_lines_of_a_fact_sheet_are_told(project: Project):
    with_causes(project, "v1", [numbered(1)])
    with_causes(project, "v2", [numbered(1)], law="- a\n- c\n- d\n")

    (cause,) = differences(version("v1"), version("v2")).audit.causes

    assert cause.lines == ("-- b", "+- c", "+- d")


def test_a_setting_that_was_changed_and_not_run_explains_nothing(project: Project):
    with_causes(project, "v1", [numbered(1)])
    with_causes(project, "v2", [numbered(1), numbered(2)], run=False, round=1)

    compared = differences(version("v1"), version("v2"))

    assert [cause.ran for cause in compared.audit.causes] == [False]
    assert "topics.economy.round differs, but what v2" in said(compared)
    assert "no cause found: environment" in said(compared)


def test_an_edit_in_the_workspace_that_was_not_run_is_said(project: Project):
    with_causes(project, "v1", [numbered(1)])
    Path("params.yaml").write_text(PARAMS.format(round=1, question=0.9, rate=0.1, rpm="null"))
    Path(f"{FACTS}/law.yaml").write_text("- z\n")
    Path("data/train.jsonl").write_bytes(jsonl([numbered(1), numbered(2)]))

    told = differences(version("v1"), version(None)).audit

    assert {cause.what: cause.ran for cause in told.causes} == {
        "topics.economy.round": False,
        f"{FACTS}/law.yaml": False,
    }
    assert any("data/train.jsonl is not what dvc.lock says" in note for note in told.notes)


def a_decision(record: Record, **changes: Any) -> Decision:
    fields = {
        "by_chance": True,
        "reviewer": "li",
        "verdict": "accept",
        "reason": None,
        "note": "",
        "item": None,
        "at": "2026-01-31T12:00:00Z",
    }
    return Decision(id=record.id, content=content(record), **(fields | changes))


def test_decisions_that_came_are_counted_and_are_about_their_topics(project: Project):
    row = numbered(1, topic="law")
    said_ = [a_decision(row), a_decision(row, reviewer="wang", verdict="reject", reason="unclear")]
    review = {"reviewed": 1, "accepted": 0, "rejected": 1, "edited": 0, "stale": 2}
    outs: dict[str, Content] = {"metrics/gate.json": json.dumps({"records": 1, "review": review})}
    for tag, decisions in (("v1", said_[:1]), ("v2", said_)):
        tracked = {"curate/decisions.jsonl": jsonl(decisions).decode()}
        project.commit(tag, a_bank({"train": [row]}) | outs, tracked, ["curate/decisions.jsonl"])

    compared = differences(version("v1"), version("v2"))

    assert compared.audit.decisions is not None
    assert (compared.audit.decisions.after, compared.audit.decisions.added) == ({"accept": 1, "reject": 1}, 1)
    assert [(cause.kind, cause.topics) for cause in compared.audit.causes] == [("decisions", ("law",))]
    assert "1 reviewed, 0 accepted, 1 rejected, 0 edited, 2 stale" in said(compared)


def test_an_empty_file_of_decisions_is_about_no_topic(project: Project):
    project.commit("v1", a_bank({"train": [numbered(1)]}))
    project.commit("v2", a_bank({"train": [numbered(1)]}), {"curate/decisions.jsonl": ""}, ["curate/decisions.jsonl"])

    told = said(differences(version("v1"), version("v2")))

    assert "  decisions curate/decisions.jsonl" in told.splitlines()


# --- scores --------------------------------------------------------------------------------------------------------


def scored(right: int, n: int) -> str:
    found = {"n": n, "accuracy": right / n, "wilson95": [0.0, 1.0]}
    return json.dumps({"n": n, "variants": {"plain": found}})


def handed_in(rows: list[Record], answers: str) -> dict[str, bytes]:
    given = "".join(f"{row.id},{answer}\n" for row, answer in zip(rows, answers, strict=True))
    return {"submission.csv": f"id,answer\n{given}".encode()}


def test_models_are_compared_on_the_questions_of_both_tests(project: Project):
    tests = [numbered(n) for n in range(4)]
    turned = numbered(2, **REORDERED)
    after = [tests[0], tests[1], turned, numbered(9)]
    for tag, rows, answers in (("v1", tests, "BBBB"), ("v2", after, "BABB")):
        files: dict[str, Content] = {"submissions/plain": handed_in(rows, answers), "metrics/score.json": scored(3, 4)}
        project.commit(tag, a_bank({"test": rows}) | files)

    compared = differences(version("v1"), version("v2"))

    scores = compared.audit.scores
    assert scores is not None and scores.variants[0].shared is not None
    assert (scores.test_before, scores.test_after, scores.test_shared) == (4, 4, 3)
    shared = scores.variants[0].shared
    assert (shared.before.n, shared.before.accuracy, shared.after.accuracy) == (3, 1.0, 0.3333)
    assert shared.difference == -0.6667
    assert "accuracies are of different questions" in said(compared)


# --- what is missing -----------------------------------------------------------------------------------------------


def test_what_is_not_there_is_said_and_the_rest_is_compared(project: Project):
    project.commit("v1", a_bank({"train": [numbered(1), numbered(2)]}))
    project.commit("v2", a_bank({"train": [numbered(1)]}) | {"metrics/score.json": scored(1, 1)})
    project.entry(version("v2").hash("metrics/score.json") or "").unlink()

    result = audit("v1", "v2", "--json")

    told = json.loads(result.output)
    assert result.exit_code == 0 and told["removed"] == 1 and told["rejected"] == {"not known": 1}
    assert any("metrics/score.json as of v2" in note and "git worktree" in note for note in told["notes"])
    assert any("data/rejects: nothing there as of v2" in note for note in told["notes"])


def test_without_the_bank_there_is_nothing_to_compare(project: Project):
    project.commit("v1", a_bank({"train": [numbered(1)]}))
    project.entry(version("v1").hash("data/train.jsonl") or "").unlink()

    result = audit("v1")

    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert "data/train.jsonl as of v1" in result.output and "dvc repro split" in result.output


@pytest.mark.parametrize("words", [["nowhere"], ["v1", "nowhere"], ["--", "--output=x"], ["v1 "]])
def test_an_unknown_revision_is_one_line(project: Project, words):
    project.commit("v1", a_bank({}))

    result = audit(*words)

    assert result.exit_code == 1 and result.output.count("\n") == 1 and "no such revision" in result.output


def test_empty_banks_can_be_compared(project: Project):
    told = banks(project, {}, {})

    assert told.audit.after.records == 0 and "0 → 0 records" in said(told)
    assert "No record changed." in page(told)


def test_one_commit_against_itself_is_the_same(project: Project):
    project.commit("v1", a_bank({"train": [numbered(1)]}))

    result = audit("v1", "v1")

    assert result.exit_code == 0 and "1 the same, 0 changed" in result.output and "are one commit" in result.output


# --- forms ---------------------------------------------------------------------------------------------------------


def a_history(project: Project) -> None:
    """Two versions that differ in every way that there is an example of."""
    before = [numbered(n, topic=f"topic_{n % 20}") for n in range(60)]
    after = [
        *(numbered(n, topic=f"topic_{n % 20}", think="另想<b>一次</b>。") for n in range(10)),
        *(numbered(n, topic=f"topic_{n % 20}", **REORDERED) for n in range(10, 20)),
        *before[20:40],
        *(numbered(n, topic="topic_1", question=f"<script>alert({n})</script>是什么？") for n in range(80, 90)),
    ]
    project.commit("v1", a_bank({"train": before[:50], "test": before[50:]}))
    rejects = {"data/rejects/dedup.jsonl": jsonl(map(a_reject, before[40:50]))}
    project.commit("v2", a_bank({"train": after[:30], "test": after[30:]}) | rejects)


def test_the_text_is_one_screen(project: Project):
    a_history(project)
    git(project.folder, "commit", "--quiet", "--allow-empty", "--message", "一个很长的中文标题" * 20)

    result = audit("v1", "HEAD")

    shown = result.output.splitlines()
    wide = [sum(2 if ord(character) > 0x2E80 else 1 for character in line) for line in shown]
    assert len(shown) <= 45 and max(wide) <= COLUMNS
    assert "and 5 more topics" in result.output


def test_the_json_holds_every_record_that_is_not_the_same(project: Project):
    a_history(project)

    told = json.loads(audit("v1", "v2", "--json").output)

    by_change: dict[str, list[Any]] = {}
    for record in told["records"]:
        by_change.setdefault(record["change"], []).append(record)
    assert {change: len(found) for change, found in by_change.items()} == {
        "removed": told["removed"],
        "added": told["added"],
        "changed": told["changed"],
        "moved": 10,
    }
    assert by_change["removed"][0]["fate"]["end"] == "rejected"
    assert by_change["moved"][0]["sides"] == ["train", "test"]


def test_the_same_versions_give_the_same_bytes(project: Project):
    a_history(project)

    first, second = (page(differences(version("v1"), version("v2"))) for _ in range(2))

    assert first == second


def test_the_page_opens_with_no_network_and_shows_texts_as_text(project: Project):
    a_history(project)
    assert audit("v1", "v2", "--html", "audit.html").exit_code == 0

    with browser() as driver:
        driver.get(Path("audit.html").resolve().as_uri())
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            look(driver, width, dark)
            driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
            screenshot(driver, f"audit-{width}-{'dark' if dark else 'light'}")
            assert not overflows(driver)
        text = driver.execute_script("return document.body.innerText")
        asked = requests_of(driver)
        assert complaints(driver) == []

    assert all(url.startswith("file://") for url in asked)
    assert "<script>alert(80)</script>是什么？" in text or "<script>alert(" in text
    for kind in ("Added: 5 of 10", "Newly rejected: 5 of 10", "Changed: think: 5 of 10", "Changed: options reordered"):
        assert kind in text


def test_a_page_that_cannot_be_written_is_one_line(project: Project):
    a_history(project)
    Path("file").touch()

    result = audit("v1", "v2", "--html", "file/audit.html")

    assert result.exit_code == 1 and result.output.startswith("file/audit.html: ") and result.output.count("\n") == 1


def test_an_audit_that_fails_leaves_the_page_that_was_there(project: Project):
    a_history(project)
    Path("audit.html").write_text("mine")

    assert audit("v1", "nowhere", "--html", "audit.html").exit_code == 1
    assert Path("audit.html").read_text() == "mine"
