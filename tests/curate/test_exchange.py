import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from curate.decisions import REASONS, content, extend, read
from curate.reviewing.exchange import FIELDS, FORMS, GUIDELINES, NEW, edited, export, import_, texts
from schemas.record import Decision, Record
from schemas.rows import write
from tests.curate.builders import a_record, an_item

ANN, BOB = "164f4526-0b69-468b-80af-38f383327b93", "d0c1b5a0-98d4-4e0c-a7f5-3a4c2b5f7c11"
EARLY, LATE = "2020-01-31T12:00:00.000Z", "2099-01-31T12:00:00.000Z"
RECORDS = [
    a_record(
        id=f"{n:016x}", question=f"《巴黎协定》第{n}次修订是在哪一年通过的？", repairs=("fence",) if n == 2 else ()
    )
    for n in range(3)
]


@pytest.fixture
def root(a_project, monkeypatch):
    """A project whose sample holds three records."""
    monkeypatch.chdir(a_project)
    write("data/decontaminated.jsonl", RECORDS)
    for kind in ("verify", "judge"):
        write(f"data/asked/{kind}.jsonl", [])
    return a_project


def run(command, *args: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, args)
    return done.exit_code, done.output


def exported(form: str) -> dict[str, dict]:
    """What is exported for a tool, by the id of the record."""
    assert run(export, form, "out.json")[0] == 0
    rows = json.loads(Path("out.json").read_bytes())
    return {row["id"] if form == "argilla" else row["data"]["id"]: row for row in rows}


def a_response(row: dict, user: str, verdict: str, **said: str) -> None:
    """Answer a record as Argilla keeps it: fields for an edit as they were suggested, but for those that are said."""
    suggested = {name: one["value"] for name, one in row["suggestions"].items()}
    for name, value in {"verdict": verdict, **suggested, **said}.items():
        row["responses"].setdefault(name, []).append({"value": value, "user_id": user})
    row["status"] = "completed"


def an_annotation(row: dict, user: object, verdict: str, at: str = EARLY, **said: str) -> None:
    """Answer a task as Label Studio keeps it: begun from the prediction."""
    results = {one["from_name"]: one for one in row["predictions"][0]["result"]}
    for name, value in {"verdict": verdict, **said}.items():
        kind = "choices" if name in ("verdict", "reason", "new_answer") else "text"
        results[name] = {
            "id": "x",
            "from_name": name,
            "to_name": "question",
            "type": "choices" if kind == "choices" else "textarea",
            "value": {kind: [value]},
        }
    row.setdefault("annotations", []).append(
        {"id": 1, "completed_by": user, "result": list(results.values()), "was_cancelled": False, "updated_at": at}
    )


ANSWER = {"argilla": a_response, "label-studio": an_annotation}
USERS = {"argilla": ANN, "label-studio": 4}


def returned(rows: dict[str, dict], form: str, *more: str) -> tuple[int, str]:
    """Import what a tool gives back."""
    Path("back.json").write_text(json.dumps(list(rows.values())))
    return run(import_, form, "back.json", "--decisions", "decisions.jsonl", *more)


def said_of(record: Record) -> tuple[str, str]:
    return record.id, content(record)


# --- out -------------------------------------------------------------------------------------------------------------


def test_argilla_gets_records_as_it_writes_them(root):
    row = exported("argilla")[RECORDS[2].id]

    assert list(row) == ["id", "fields", "metadata", "suggestions", "responses", "vectors", "status", "_server_id"]
    assert row["fields"] == {
        "question": "《巴黎协定》第2次修订是在哪一年通过的？",
        "options": "A. 2012年\nB. 2015年\nC. 2016年\nD. 2018年\n→ B",
        "chain": "先回忆《巴黎协定》的背景。\n\n"
        "1. 《巴黎协定》于2015年通过。\n2. 因此选项B正确。\n\n依据公开资料，表述中立。",
        "risks": "repaired: the reply had to be mended",
    }
    assert row["metadata"] == {
        "content": content(RECORDS[2]),
        "drawn": "risk",
        "topic": "environment",
        "difficulty": "basic",
        "type": "factual",
        "teacher": "embedded",
    }
    assert row["suggestions"]["new_b"] == {"value": "2015年", "score": None, "agent": "embedded"}
    assert "new_adjustment" not in row["suggestions"]
    assert (row["responses"], row["status"]) == ({}, "pending")


def test_argillas_settings_ask_for_what_is_read_back(root):
    rows = exported("argilla")
    settings = json.loads(Path("out.json.settings.json").read_bytes())
    questions = {question["name"]: question for question in settings["questions"]}

    assert [field["name"] for field in settings["fields"]] == list(rows[RECORDS[0].id]["fields"])
    assert list(questions) == ["verdict", "reason", "note", *(NEW + name for name in FIELDS)]
    assert [name for name, question in questions.items() if question["required"]] == ["verdict"]
    assert [option["value"] for option in questions["reason"]["settings"]["options"]] == list(REASONS)
    assert settings["guidelines"] == GUIDELINES


def test_label_studio_gets_tasks_with_what_is_edited_as_a_prediction(root):
    row = exported("label-studio")[RECORDS[0].id]
    [prediction] = row["predictions"]

    assert list(row) == ["data", "predictions"]
    assert row["data"]["content"] == content(RECORDS[0])
    assert prediction["model_version"] == "embedded"
    assert prediction["result"][0] == {
        "id": "new_question",
        "from_name": "new_question",
        "to_name": "question",
        "type": "textarea",
        "value": {"text": [RECORDS[0].question]},
    }
    assert prediction["result"][-1]["value"] == {"choices": ["B"]}


def test_label_studios_interface_names_what_the_tasks_hold(root):
    row = exported("label-studio")[RECORDS[0].id]
    view = ElementTree.parse("out.json.xml").getroot()
    controls = {tag.get("name"): tag for kind in ("Choices", "TextArea") for tag in view.iter(kind)}

    assert {tag.get("value") for tag in view.iter("Text")} <= {f"${name}" for name in row["data"]}
    assert {*controls} == {"verdict", "reason", "note", *(NEW + name for name in FIELDS)}
    assert {tag.get("toName") for tag in controls.values()} == {"question"}
    for one in row["predictions"][0]["result"]:
        assert controls[one["from_name"]].tag.lower() == one["type"]
    assert [choice.get("value") for choice in controls["reason"]] == list(REASONS)


@pytest.mark.parametrize("name", ["out.json", "out.json.xml"])
def test_a_file_that_is_there_is_not_overwritten(root, name):
    Path(name).write_text("what people did")

    status, said = run(export, "label-studio", "out.json")

    assert (status, said) == (
        1,
        f"{name}: is there already, and may hold decisions; name another file or move it away\n",
    )
    assert Path(name).read_text() == "what people did"


@pytest.mark.parametrize("form", FORMS)
def test_the_same_sample_gives_the_same_bytes(root, form):
    run(export, form, "one.json")
    run(export, form, "other.json")

    assert Path("one.json").read_bytes() == Path("other.json").read_bytes()


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_what_was_decided_in_a_tool_comes_back_as_decisions(root, form):
    rows = exported(form)
    answer, user = ANSWER[form], USERS[form]
    answer(rows[RECORDS[0].id], user, "accept", note="好题")
    answer(rows[RECORDS[1].id], user, "reject", reason="ambiguous")
    answer(rows[RECORDS[2].id], user, "edit", new_c="2017年", new_steps="《巴黎协定》于2015年通过。\n\n 故选B。\n")

    status, said = returned(rows, form, "--as", f"{user}=ann")

    assert (status, said) == (0, "review: 3 decisions added to decisions.jsonl: 1 accept, 1 edit, 1 reject\n")
    found = {decision.id: decision for decision in read(Path("decisions.jsonl"))}
    assert [said_of(record) for record in RECORDS] == [(one.id, one.content) for _, one in sorted(found.items())]
    assert {one.reviewer for one in found.values()} == {"ann"}
    assert {id_ for id_, one in found.items() if not one.by_chance} == {RECORDS[2].id}
    assert [(one.verdict, one.reason, one.note) for _, one in sorted(found.items())] == [
        ("accept", None, "好题"),
        ("reject", "ambiguous", ""),
        ("edit", None, ""),
    ]
    assert found[RECORDS[2].id].item == an_item(
        question=RECORDS[2].question,
        options=("2012年", "2015年", "2017年", "2018年"),
        steps=("《巴黎协定》于2015年通过。", "故选B。"),
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_came_back_once_is_not_taken_again(root, form):
    rows = exported(form)
    ANSWER[form](rows[RECORDS[0].id], USERS[form], "accept")
    returned(rows, form)
    before = Path("decisions.jsonl").read_bytes()

    assert returned(rows, form) == (
        0,
        "review: 0 decisions added to decisions.jsonl\nreview: not taken: 1 there already, 2 without a verdict\n",
    )
    assert Path("decisions.jsonl").read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
def test_a_record_that_has_changed_or_gone_since_is_counted_not_taken(root, form):
    rows = exported(form)
    for record in RECORDS:
        ANSWER[form](rows[record.id], USERS[form], "accept")
    write("data/decontaminated.jsonl", [RECORDS[0], replace(RECORDS[1], think="改了。")])

    assert returned(rows, form) == (
        0,
        "review: 1 decisions added to decisions.jsonl: 1 accept\nreview: not taken: 1 no such record, 1 stale\n",
    )


@pytest.mark.parametrize("form", FORMS)
def test_two_reviewers_of_one_record_both_come_back(root, form):
    rows = exported(form)
    users = (ANN, BOB) if form == "argilla" else (4, 5)
    for user in users:
        ANSWER[form](rows[RECORDS[0].id], user, "accept")

    returned(rows, form, "--as", f"{users[0]}=ann")

    other = BOB if form == "argilla" else "label-studio 5"
    assert [one.reviewer for one in read(Path("decisions.jsonl"))] == ["ann", other]


@pytest.mark.parametrize(
    ("verdict", "said", "complaint"),
    [
        ("reject", {}, "a reject without a reason; the reasons are wrong_answer,"),
        ("reject", {"reason": "bad"}, "'bad' is none; the reasons are wrong_answer,"),
        ("accept", {"new_c": "2017年"}, "accepted, but changed; choose edit"),
        ("edit", {}, "an edit that changes nothing"),
        ("edit", {"new_c": "2015年"}, "as edited it does not pass: options_not_distinct, '2015年' stands twice"),
        ("edit", {"new_answer": "C"}, "as edited it does not pass: reasoning_disagrees, "),
        ("edit", {"new_question": " "}, "as edited it is no question: Expected `str` of length >= 1 - at `$.question`"),
        ("edit", {"new_steps": " \n "}, "as edited it is no question: Expected `array` of length >= 1 - at `$.steps`"),
        ("edit", {"new_answer": "E"}, "as edited it is no question: Invalid enum value 'E' - at `$.answer`"),
        ("maybe", {}, "the verdict 'maybe' is none of accept, reject, edit"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_that_makes_no_sense_takes_nothing_and_is_named(root, form, verdict, said, complaint):
    rows = exported(form)
    ANSWER[form](rows[RECORDS[0].id], USERS[form], "accept")
    ANSWER[form](rows[RECORDS[1].id], USERS[form], verdict, **said)

    status, told = returned(rows, form, "--as", f"{USERS[form]}=ann")

    assert (status, told.count("\n")) == (1, 1)
    assert told.startswith(f"back.json: '{RECORDS[1].id}' by ann: {complaint}")
    assert told.endswith("; mend it in the tool and export again, nothing was taken\n")
    assert not Path("decisions.jsonl").exists()


def test_several_such_answers_are_counted(root):
    rows = exported("argilla")
    for record in RECORDS:
        a_response(rows[record.id], ANN, "edit")

    assert "an edit that changes nothing (2 more like it); mend" in returned(rows, "argilla")[1]


# --- what each tool tells --------------------------------------------------------------------------------------------


def test_an_argilla_draft_is_no_decision(root):
    rows = exported("argilla")
    a_response(rows[RECORDS[0].id], ANN, "accept")
    rows[RECORDS[0].id]["status"] = "pending"

    assert returned(rows, "argilla")[1].endswith("review: not taken: 3 without a verdict\n")


def test_argilla_may_leave_out_what_it_has_none_of(root):
    row = exported("argilla")[RECORDS[0].id] | {"responses": None, "suggestions": None, "vectors": None}
    row["score"] = 1.0

    assert returned({"": row}, "argilla")[0] == 0


def test_an_argilla_export_does_not_take_back_what_was_decided_since(root):
    rows = exported("argilla")
    a_response(rows[RECORDS[0].id], ANN, "accept")
    returned(rows, "argilla", "--as", f"{ANN}=ann")
    [accepted] = read(Path("decisions.jsonl"))
    extend(Path("decisions.jsonl"), [replace(accepted, verdict="reject", reason="other", at=LATE)])

    assert "1 there already" in returned(rows, "argilla", "--as", f"{ANN}=ann")[1]


@pytest.mark.parametrize(("at", "added"), [(EARLY, 0), (LATE, 1)])
def test_a_label_studio_annotation_counts_if_it_is_newer_than_what_is_held(root, at, added):
    rows = exported("label-studio")
    an_annotation(rows[RECORDS[0].id], 4, "accept", at)
    held = {
        "id": RECORDS[0].id,
        "content": content(RECORDS[0]),
        "by_chance": True,
        "reviewer": "ann",
        "verdict": "reject",
    }
    between = "2026-01-31T12:00:00Z"
    extend(Path("decisions.jsonl"), [Decision(**held, reason="other", note="", item=None, at=between)])

    assert returned(rows, "label-studio", "--as", "4=ann")[1].startswith(f"review: {added} decisions added")


def test_of_a_users_annotations_the_last_counts(root):
    rows = exported("label-studio")
    an_annotation(rows[RECORDS[0].id], 4, "accept", LATE)
    an_annotation(rows[RECORDS[0].id], 4, "reject", EARLY, reason="other")

    assert "1 accept\nreview: not taken: 1 taken back later, " in returned(rows, "label-studio")[1]
    assert [one.at for one in read(Path("decisions.jsonl"))] == [LATE]


@pytest.mark.parametrize(
    ("user", "more", "reviewer"),
    [
        (4, {}, "label-studio 4"),
        (4, {"created_username": "Ann Lee ann@x.org, 4"}, "ann@x.org"),
        (4, {"created_username": " , 4"}, "label-studio 4"),
        ({"id": 4, "email": "ann@x.org", "first_name": "Ann"}, {}, "ann@x.org"),
        ({"id": 4}, {}, "label-studio 4"),
    ],
)
def test_a_label_studio_user_is_named_by_address_or_number(root, user, more, reviewer):
    rows = exported("label-studio")
    an_annotation(rows[RECORDS[0].id], user, "accept")
    rows[RECORDS[0].id]["annotations"][0] |= more

    returned(rows, "label-studio")

    assert [one.reviewer for one in read(Path("decisions.jsonl"))] == [reviewer]


def test_what_was_skipped_or_related_in_label_studio_is_no_decision(root):
    rows = exported("label-studio")
    an_annotation(rows[RECORDS[0].id], 4, "accept")
    rows[RECORDS[0].id]["annotations"][0]["was_cancelled"] = True
    rows[RECORDS[1].id]["annotations"] = [
        {"completed_by": 4, "result": [{"type": "relation", "from_id": "x", "to_id": "y", "direction": "right"}]}
    ]

    assert returned(rows, "label-studio")[1].endswith("review: not taken: 3 without a verdict\n")


def test_an_annotation_that_was_not_begun_from_the_prediction_changes_nothing(root):
    rows = exported("label-studio")
    rows[RECORDS[0].id]["predictions"][0]["result"] = []
    an_annotation(rows[RECORDS[0].id], 4, "accept")

    assert returned(rows, "label-studio")[1].startswith("review: 1 decisions added")


# --- other files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "data", "complaint"),
    [
        ("argilla", b"", "Input data was truncated; export it from the tool again: `dataset.records.to_json(PATH)`"),
        ("argilla", b"{}", "Expected `array`, got `object`; export it from the tool again: `dataset."),
        ("argilla", b'[{"id": "1", "metadata": {}}]', "'1' has no content in its metadata; only what "),
        ("argilla", b'[{"id": "1", "metadata": null}]', "'1' has no content in its metadata; only what "),
        ("argilla", b'["\xff"]', "Expected `object`, got `str` - at `$[0]`; export it"),
        ("label-studio", b'[{"question": "x"}]', "Object missing required field `data` - at `$[0]`; export it "),
        ("label-studio", b'[{"data": {"text": "x"}}]', "'' has no content in its data; only what "),
        (
            "label-studio",
            b'[{"data": {"id": "1", "content": "x", "drawn": "risk"}, "annotations": [{"result": [{"from_name": '
            b'"verdict", "value": {"choices": ["accept"]}}], "updated_at": "soon"}]}]',
            "'1': 'soon' is not a time; export it from the tool again",
        ),
    ],
)  # fmt: skip
def test_another_file_is_refused_in_one_line(root, form, data, complaint):
    Path("back.json").write_bytes(data)

    status, said = run(import_, form, "back.json", "--decisions", "decisions.jsonl")

    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith(f"back.json: {complaint}")


def test_a_file_that_is_not_there_and_a_name_that_is_none_are_faults(root):
    assert run(import_, "argilla", "none.json") == (
        1,
        "none.json: No such file or directory; name the file that the tool exported\n",
    )
    Path("back.json").write_text("[]")
    assert run(import_, "argilla", "back.json", "--as", "ann") == (1, "--as ann: write it as USER=NAME\n")


# --- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        an_item(),
        an_item(adjustment="改"),
        an_item(adjustment=""),
        an_item(think="", reflection=""),
        an_item(steps=("一\n二", " 三 ")),
        an_item(question=" 问？ \n"),
    ],
)
def test_texts_that_come_back_as_they_were_change_nothing(item):
    assert edited(item, {name: text.strip() for name, text in texts(item).items()}) == item


def test_an_adjustment_may_be_added_and_taken_out():
    assert edited(an_item(), {"adjustment": "改"}) == an_item(adjustment="改")
    assert edited(an_item(adjustment="改"), {"adjustment": ""}) == an_item()


def test_every_field_of_an_item_may_be_edited():
    new = an_item(
        question="问？",
        options=("1", "2", "3", "4"),
        think="想",
        steps=("一", "二", "三"),
        reflection="查",
        adjustment="改",
        answer="D",
    )

    assert edited(an_item(), texts(new)) == new
    assert msgspec.json.encode(edited(an_item(), texts(new))) == msgspec.json.encode(new)
