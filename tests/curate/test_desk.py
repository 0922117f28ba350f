from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import msgspec
import pytest

from curate import decisions
from curate.checks import CHECKS, ValidateParams
from curate.reviewing.desk import Desk, Draft, Edited, Places, Refused, Wanted, changes, checked, tidied
from schemas.faults import Fault
from schemas.params import load
from schemas.record import Decision
from tests.curate.builders import a_record, an_item
from tests.curate.reviewing import Project, a_draft, a_verification, a_wish, judged, some_records

PARAMS = load("validate", ValidateParams)


def a_desk(project: Project, reviewer: str = "ann") -> Desk:
    """A desk whose clock moves on a second at each look."""
    data = project.folder / "data"
    places = Places(
        records=data / "decontaminated.jsonl",
        verify=data / "asked" / "verify.jsonl",
        judge=data / "asked" / "judge.jsonl",
        decisions=project.decisions,
        params=project.folder / "params.yaml",
    )
    seconds = count()
    return Desk(places, reviewer, lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(seconds)))


def wanted(record, verdict="accept", **changes) -> Wanted:
    return msgspec.convert(a_wish(record, decisions.content(record), verdict, **changes), Wanted)


def a_decision(record, verdict="accept", **changes) -> Decision:
    fields = {
        "id": record.id,
        "content": decisions.content(record),
        "by_chance": True,
        "reviewer": "ann",
        "verdict": verdict,
    }
    return Decision(**(fields | {"reason": None, "note": "", "item": None, "at": "2026-01-01T00:00:00Z"} | changes))


def draft(record=None, **changes) -> Draft:
    return msgspec.convert(a_draft(record or a_record(), **changes), Draft)


def states(desk: Desk) -> dict[str, str]:
    return {entry.id: entry.state for entry in desk.overview().rows}


@pytest.mark.parametrize(
    ("change", "code", "detail"),
    [
        ({}, None, None),
        ({"question": ""}, "blank", "the question is empty"),
        ({"options": ["2012年", "", "2016年", "2018年"]}, "blank", "option B is empty"),
        ({"steps": []}, "blank", "there is no step"),
        ({"steps": ["《巴黎协定》于2015年通过。", " "]}, "blank", "a step is empty: fill it, or take it out"),
        ({"answer": ""}, "blank", "no option is marked as right"),
        ({"answer": "E"}, "blank", "no option is marked as right"),
        ({"think": "NUL \0"}, "not_xml", None),
        ({"question": "何年？"}, "question_too_short", "3 characters, at least 6"),
        ({"options": ["2015年", "2015年", "2016年", "2018年"]}, "options_not_distinct", "'2015年' stands twice"),
        ({"answer": "A"}, "reasoning_disagrees", "the chain concludes B, the answer is A"),
        ({"think": ""}, "part_missing", "no <think>"),
    ],
)
def test_an_edit_is_checked_as_validation_checks_a_reply(change, code, detail):
    checks = checked(a_record(), tidied(draft(**change)), PARAMS)

    assert (checks.failed[0].code if checks.failed else None) == code
    assert detail is None or checks.failed[0].detail == detail
    assert checks.changed == bool(change)


def test_all_that_is_wrong_is_told_at_once():
    checks = checked(a_record(), draft(question="何年？", answer="A"), PARAMS)

    assert [problem.code for problem in checks.failed] == ["question_too_short", "reasoning_disagrees"]
    assert checks.passed == len(CHECKS) - 2


def test_an_edit_is_written_without_the_white_space_that_xml_would_not_keep():
    found = tidied(draft(question=" 问\r\n题 \n", steps=["\t一 "], adjustment="  ", reflection="a\rb"))

    assert (found.question, found.steps, found.adjustment, found.reflection) == ("问\n题", ("一",), None, "a\nb")


def test_what_an_edit_changes_is_told_by_field_and_character():
    after = an_item(answer="C", reflection="依据公开材料，表述中立。")

    assert changes(an_item(), after) == [
        ("Reflection", [("=", "依据公开"), ("-", "资"), ("+", "材"), ("=", "料，表述中立。")]),
        ("Output", [("-", "B"), ("+", "C")]),
    ]


def test_a_row_holds_all_that_is_known_of_it(tmp_path: Path):
    record = a_record(repairs=("bare_ampersand",))
    project = Project(tmp_path, [record])
    project.ask([a_verification()], [judged(2, 3, 3, 3, 3)])

    sheet = a_desk(project).sheet(record.id)

    assert sheet.content == decisions.content(record)
    assert sheet.record == an_item()
    assert sheet.verify == a_verification()
    assert sheet.judge and sheet.judge.mean == 2.8
    assert sheet.checks.passed == len(CHECKS)
    assert set(sheet.risks) >= {"verify_disagreed", "low_marks", "repaired"}
    assert (sheet.state, sheet.decisions) == ("open", [])


@pytest.mark.parametrize("verdict", ["accept", "reject", "edit"])
def test_a_decision_is_in_the_file_and_on_the_row(tmp_path: Path, verdict):
    project = Project(tmp_path)
    record = project.records[0]
    item = a_draft(record, reflection="改过的反思。") if verdict == "edit" else None
    desk = a_desk(project)

    saved = desk.decide(wanted(record, verdict, reason="unclear" if verdict == "reject" else None, item=item))

    [made] = project.decided()
    assert (made.id, made.verdict, made.content) == (record.id, verdict, decisions.content(record))
    assert (made.reviewer, made.at) == ("ann", "2026-01-01T00:00:00.000Z")
    assert saved.state == states(desk)[record.id] == {"accept": "accepted", "reject": "rejected"}.get(verdict, "edited")
    [told] = desk.sheet(record.id).decisions
    assert not told.stale
    assert [name for name, _ in told.changes] == (["Reflection"] if item else [])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdict": "reject"}, "a reject without a reason"),
        ({"verdict": "reject", "reason": "dull"}, "'dull' is none"),
        ({"verdict": "reject", "reason": "other", "note": " "}, "needs a note"),
        ({"reason": "unclear"}, "an accept with the reason"),
        ({"verdict": "edit"}, "an edit without an item"),
        ({"verdict": "edit", "item": a_draft(some_records()[0])}, "changes nothing"),
        (
            {"verdict": "edit", "item": a_draft(some_records()[0], question="何年？")},
            "question_too_short: 3 characters",
        ),
        ({"item": a_draft(some_records()[0], reflection="改。")}, "an accept with an item"),
    ],
)
def test_what_is_not_a_decision_is_refused(tmp_path: Path, change, says):
    project = Project(tmp_path)
    wish = msgspec.convert(a_wish(project.records[0], decisions.content(project.records[0])) | change, Wanted)

    with pytest.raises(Refused, match=says) as refused:
        a_desk(project).decide(wish)

    assert refused.value.why == "invalid"
    assert project.decided() == []


def test_the_same_decision_again_is_not_written_twice_but_a_change_of_mind_is(tmp_path: Path):
    project = Project(tmp_path)
    record, desk = project.records[0], a_desk(project)

    for verdict in ("accept", "accept", "reject", "accept"):
        desk.decide(wanted(record, verdict, reason="trivial" if verdict == "reject" else None))

    assert [made.verdict for made in project.decided()] == ["accept", "reject", "accept"]


def test_a_record_that_has_changed_is_not_decided_about(tmp_path: Path):
    project = Project(tmp_path)
    old, desk = project.records[0], a_desk(project)
    desk.decide(wanted(old))
    new = msgspec.structs.replace(old, reflection="另一种反思。")
    project.hold([new, *project.records[1:]])

    with pytest.raises(Refused, match="has changed") as refused:
        desk.decide(wanted(old, "reject", reason="unclear"))

    assert refused.value.why == "changed"
    assert states(desk)[old.id] == "stale"
    assert [made.stale for made in desk.sheet(old.id).decisions] == [True]
    desk.decide(wanted(new))
    assert states(desk)[old.id] == "accepted"


def test_nothing_of_another_reviewer_is_told_before_the_summary(tmp_path: Path):
    project = Project(tmp_path)
    record = project.records[0]
    alone = a_desk(project, "bob")
    before = msgspec.json.encode([alone.overview(), alone.sheet(record.id)])

    a_desk(project, "ann").decide(wanted(record, "reject", reason="trivial", note="secret"))

    assert msgspec.json.encode([alone.overview(), alone.sheet(record.id)]) == before
    assert "secret" not in alone.summary()
    alone.decide(wanted(record))
    assert "secret" in alone.summary()


def test_what_was_decided_about_outside_the_sample_is_shown_behind_it(tmp_path: Path):
    project = Project(tmp_path, rows=3)
    desk = a_desk(project)
    sampled = [entry.id for entry in desk.overview().rows]
    outside = [record for record in project.records if record.id not in sampled]
    for reviewer, record in zip(("ann", "bob"), outside, strict=False):
        decisions.append(project.decisions, a_decision(record, reviewer=reviewer))

    rows = desk.overview().rows

    assert [entry.id for entry in rows[:3]] == sampled
    assert {entry.id: entry.state for entry in rows[3:]} == {outside[0].id: "accepted", outside[1].id: "open"}
    assert desk.sheet(outside[1].id).sampled == "decided"
    assert [entry.id for entry in a_desk(project).overview().rows] == [entry.id for entry in rows]


def test_all_reviewers_are_shown_the_same_rows_in_the_same_order(tmp_path: Path):
    project = Project(tmp_path, rows=7)

    orders = [[entry.id for entry in a_desk(project, name).overview().rows] for name in ("ann", "bob")]

    assert orders[0] == orders[1]
    assert len(orders[0]) == 7


def test_files_that_change_change_the_version_but_what_others_decide_does_not(tmp_path: Path):
    project = Project(tmp_path)
    desk, record = a_desk(project), project.records[0]
    first = desk.version()
    decisions.append(project.decisions, a_decision(record, reviewer="bob"))
    second = desk.version()
    saved = desk.decide(wanted(record))
    project.hold(project.records[1:])

    assert first == second == saved.before
    assert len({first, saved.version, desk.version()}) == 3


@pytest.mark.parametrize(
    ("break_", "says"),
    [
        (lambda project: (project.folder / "data" / "decontaminated.jsonl").unlink(), "`dvc repro` writes it"),
        (lambda project: project.decisions.write_text("{}\n"), r"decisions.jsonl:1: "),
        (lambda project: project.decisions.unlink(), "bring it back"),
        (lambda project: project.decisions.write_text('{"id": "cut'), r"decisions.jsonl:1: .*cut off"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_and_heals(tmp_path: Path, break_, says):
    project = Project(tmp_path)
    desk = a_desk(project)
    desk.overview()
    break_(project)

    with pytest.raises(Fault, match=says):
        desk.overview()

    project.hold(project.records)
    project.decisions.write_text("")
    assert len(desk.overview().rows) == 12


def test_a_row_that_is_not_shown_is_unknown(tmp_path: Path):
    desk = a_desk(Project(tmp_path))

    for ask in (lambda: desk.sheet("../x"), lambda: desk.check(Edited("../x", draft()))):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.why == "unknown"


def test_the_summary_tells_rates_agreement_reasons_and_what_is_stale(tmp_path: Path):
    project = Project(tmp_path)
    first, second, third, *_ = project.records
    for decision in (
        a_decision(first),
        a_decision(second, "reject", reason="trivial"),
        a_decision(first, reviewer="bob"),
        a_decision(second, reviewer="bob"),
        a_decision(third, content="0" * 16),
    ):
        decisions.append(project.decisions, decision)

    page = a_desk(project).summary()

    for told in ("50.0%", "trivial", "the question gives itself away", "ann", "bob", third.id, "The gate"):
        assert told in page


def test_markup_in_a_note_is_text_in_the_summary(tmp_path: Path):
    project = Project(tmp_path)
    record = project.records[0]
    for decision in (
        a_decision(record),
        a_decision(
            record, "reject", reviewer="<img src=x onerror=alert(1)>", reason="other", note="<script>x</script>"
        ),
    ):
        decisions.append(project.decisions, decision)

    page = a_desk(project).summary()

    assert "<img" not in page
    assert "&lt;script&gt;x" in page
