import json
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from curate.decisions import (
    REASONS,
    Dropped,
    Standing,
    append,
    content,
    extend,
    fresh,
    kappa,
    moment,
    parse,
    rates,
    read,
    stamp,
    standing,
    verdict,
)
from schemas.faults import Fault
from schemas.interval import wilson
from schemas.record import Decision
from tests.curate.builders import a_record, an_item, items_of

HERE = content(a_record())


def a_decision(verdict: str = "accept", **changes: object) -> Decision:
    """What a reviewer decided about `a_record()`."""
    fields = {
        "id": a_record().id,
        "content": HERE,
        "by_chance": True,
        "reviewer": "ann",
        "verdict": verdict,
        "reason": "wrong_answer" if verdict == "reject" else None,
        "note": "",
        "item": an_item(question="改过的问题？") if verdict == "edit" else None,
        "at": "2026-01-31T12:00:00Z",
    }
    return Decision(**(fields | changes))


ANEW = "take the line out and review anew"
NO_TIME = "is not a time in UTC; write it as 2026-01-31T12:00:00Z"
ITEM = json.loads(msgspec.json.encode(an_item()))


def line(**changes: object) -> bytes:
    """A valid line with some fields changed, those that are `...` taken out."""
    fields = json.loads(msgspec.json.encode(a_decision())) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode() + b"\n"


def complaint(data: bytes) -> str:
    with pytest.raises(Fault) as caught:
        parse(data, "d.jsonl")
    assert "\n" not in caught.value.message
    return caught.value.message


# --- the hash --------------------------------------------------------------------------------------------------------


@given(items_of(st.text(st.characters(codec="utf-8"), min_size=1)))
def test_a_hash_is_of_the_item_alone(item):
    record = a_record(**{name: getattr(item, name) for name in item.__struct_fields__}, id="x", teacher="y")

    assert content(record) == content(item)
    assert len(content(item)) == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "？"},
        {"options": ("2015年", "2012年", "2016年", "2018年")},
        {"think": ""},
        {"steps": ("《巴黎协定》于2015年通过。因此选项B正确。",)},
        {"reflection": ""},
        {"adjustment": ""},
        {"answer": "A"},
    ],
)
def test_every_field_of_an_item_changes_its_hash(changes):
    assert content(an_item(**changes)) != HERE


def test_the_hash_stays_what_it_was_when_decisions_were_written():
    assert HERE == "ebc0ffef25e2eaaa"


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_file_gives_its_decisions_in_order(tmp_path):
    found = [a_decision(), a_decision("reject", note="2016年\u2028才生效"), a_decision("edit", reviewer="李 四")]
    (tmp_path / "d.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in found))

    assert read(tmp_path / "d.jsonl") == found


def test_an_empty_file_has_no_decisions(tmp_path):
    (tmp_path / "d.jsonl").touch()

    assert read(tmp_path / "d.jsonl") == []


def test_a_file_that_is_not_there_is_a_fault(tmp_path):
    with pytest.raises(
        Fault, match=r"d\.jsonl: No such file or directory; bring it back \(`git checkout .*empty file$"
    ):
        read(tmp_path / "d.jsonl")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (line(verdict="accepted"), "Invalid enum value 'accepted' - at `$.verdict`; mend the line, or take it out"),
        (line(at=...), "Object missing required field `at`; mend the line, or take it out"),
        (line(more=1), "Object contains unknown field `more`; mend the line, or take it out"),
        (line(id=7), "Expected `str`, got `int` - at `$.id`; mend the line, or take it out"),
        (b"{\n", "Input data was truncated; mend the line, or take it out"),
        (b"accepted, said ann\n", "JSON is malformed: invalid character (byte 0); mend the line, or take it out"),
        (
            line()[:-2] + b",}\n",
            "JSON is malformed: trailing comma in object (byte 188); mend the line, or take it out",
        ),
        (line(content="x"), f"content 'x' is not a hash of 16 hex digits; {ANEW}"),
        (line(content=HERE.upper()), f"content '{HERE.upper()}' is not a hash of 16 hex digits; {ANEW}"),
        (line(reviewer=" ann"), "reviewer ' ann' is not a plain name; write it without spaces around it"),
        (line(reviewer=" "), "reviewer ' ' is not a plain name; write it without spaces around it"),
        (line(reviewer="a\nb"), r"reviewer 'a\nb' is not a plain name; write it without spaces around it"),
        (line(reviewer=""), "Expected `str` of length >= 1 - at `$.reviewer`; mend the line, or take it out"),
        (line(verdict="reject"), f"a reject without a reason; the reasons are {', '.join(REASONS)}"),
        (line(verdict="reject", reason="bad"), f"'bad' is none; the reasons are {', '.join(REASONS)}"),
        (line(reason="other"), "an accept with the reason 'other'; put null there and the words under 'note'"),
        (line(verdict="edit"), "an edit without an item; put the edited item there, or take the line out"),
        (line(item=ITEM), "an accept with an item; put null there, or make it an edit"),
        (line(at="yesterday"), f"at 'yesterday' {NO_TIME}"),
        (line(at="2026-01-31"), f"at '2026-01-31' {NO_TIME}"),
        (line(at="2026-01-31T12:00:00"), f"at '2026-01-31T12:00:00' {NO_TIME}"),
        (line(at="2026-01-31T12:00:00+08:00"), f"at '2026-01-31T12:00:00+08:00' {NO_TIME}"),
        (b"\n", "the line is empty; take it out"),
        (b"  \n", "the line is empty; take it out"),
        (line()[:-1] + b"\r\n", r"ends in CR LF; save the file with LF line ends (`sed -i 's/\r$//' FILE`)"),
        (b"\xff\n", "byte 0xff is not UTF-8; save the file as UTF-8"),
        (line(), "the same decision as in line 1; take one of them out"),
        (line()[:-1].replace(b'", "', b'","') + b"\n", "the same decision as in line 1; take one of them out"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_what_to_do(bad, said):
    assert complaint(line() + bad + line(reviewer="cid")) == f"d.jsonl:2: {said}"


@pytest.mark.parametrize("marker", [b"<<<<<<< HEAD", b"||||||| 1a2b3c4", b"=======", b">>>>>>> theirs"])
def test_a_merge_conflict_is_told_as_one(marker):
    assert complaint(line() + marker + b"\n") == (
        "d.jsonl:2: a merge conflict; take out the lines that begin with <<<<<<<, ======= and >>>>>>>, so that "
        "the file holds the lines of both sides"
    )


def test_a_byte_order_mark_is_told_as_one():
    assert complaint(b"\xef\xbb\xbf" + line()) == (
        "d.jsonl:1: begins with a byte order mark; save the file as UTF-8 without one"
    )


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (line()[:30], "the line is cut off, as by a crash; take it out (`sed -i '$d' FILE`)"),
        (line()[:-1], "the line is whole but has no end; add one (`echo >> FILE`)"),
    ],
)
def test_a_last_line_without_its_end_is_told_with_how_to_mend_it(tmp_path, rest, said):
    path = tmp_path / "d.jsonl"
    path.write_bytes(line(reviewer="bob") + rest)

    assert complaint(path.read_bytes()) == f"d.jsonl:2: {said}"
    with pytest.raises(Fault, match=r"; then decide again$"):
        append(path, a_decision(reviewer="cid"))
    assert path.read_bytes() == line(reviewer="bob") + rest


def test_a_last_line_mended_as_it_is_said_is_read_again(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(line(reviewer="bob") + line()[:30])
    subprocess.run(["sed", "-i", "$d", path], check=True)

    assert [one.reviewer for one in read(path)] == ["bob"]


# --- appending -------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read_again_and_what_was_there_stays(tmp_path):
    path = tmp_path / "d.jsonl"
    one, other = a_decision(), a_decision("edit", reviewer="bob", note="改“题”\n两行")

    append(path, one)
    before = path.read_bytes()
    append(path, other)

    assert read(path) == [one, other]
    assert path.read_bytes().startswith(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_same_decision_is_added_once(tmp_path):
    path = tmp_path / "d.jsonl"

    counts = [
        extend(path, found) for found in ([a_decision()], [a_decision(), a_decision("reject")], [a_decision()] * 2)
    ]

    assert counts == [1, 1, 0]
    assert len(read(path)) == 2


@pytest.mark.parametrize("bad", [a_decision("reject", reason=None), a_decision(reviewer="\n"), a_decision(at="now")])
def test_what_could_not_be_read_again_is_not_written(tmp_path, bad):
    with pytest.raises(Fault, match="the decision of "):
        extend(tmp_path / "d.jsonl", [a_decision(), bad])

    assert not (tmp_path / "d.jsonl").exists()


@pytest.mark.parametrize("name", [".", "none/d.jsonl"])
def test_a_file_that_cannot_be_written_is_a_fault(tmp_path, name):
    with pytest.raises(Fault, match="; nothing was added, mend it and decide again"):
        append(tmp_path / name, a_decision())


def test_a_full_disk_leaves_no_half_line(tmp_path):
    path = tmp_path / "d.jsonl"
    append(path, a_decision())
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # A file may grow by a hundred bytes more, which a line does not fit in.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))

    try:
        with pytest.raises(Fault, match=r"d\.jsonl: File too large; nothing was added"):
            append(path, a_decision(reviewer="bob"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert path.read_bytes() == before
    append(path, a_decision(reviewer="bob"))
    assert len(read(path)) == 2


WRITER = """
import sys
from pathlib import Path
from msgspec.structs import replace
from curate.decisions import append
from tests.curate.test_decisions import a_decision
for number in range(60):
    append(Path(sys.argv[1]), replace(a_decision(reviewer=sys.argv[2]), id=str(number), note="长" * number))
"""


def test_two_processes_that_append_at_once_lose_nothing(tmp_path):
    path = tmp_path / "d.jsonl"
    both = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in ("ann", "bob")]

    assert [process.wait() for process in both] == [0, 0]
    found = read(path)
    for name in ("ann", "bob"):
        assert [one.id for one in found if one.reviewer == name] == [str(number) for number in range(60)]


def test_a_file_that_git_has_replaced_is_appended_to_under_its_name(tmp_path):
    path = tmp_path / "d.jsonl"
    append(path, a_decision())
    new = tmp_path / "new"
    new.write_bytes(line(reviewer="bob"))
    new.replace(path)

    append(path, a_decision(reviewer="cid"))

    assert [one.reviewer for one in read(path)] == ["bob", "cid"]


# --- what stands -----------------------------------------------------------------------------------------------------


def test_a_reviewer_may_change_their_mind():
    about = standing([a_decision("reject"), a_decision(reviewer="bob"), a_decision()])[a_record().id]

    assert about.fresh(HERE) == (a_decision(reviewer="bob"), a_decision())


def test_a_decision_about_another_content_is_stale():
    old = a_decision("reject", content="0" * 16)
    about = Standing((old, a_decision(reviewer="bob")))

    assert (about.fresh(HERE), about.stale(HERE)) == ((a_decision(reviewer="bob"),), (old,))
    assert about.stale("1" * 16) == (old, a_decision(reviewer="bob"))


def test_who_decided_anew_has_nothing_stale_and_an_old_content_has_its_decision_again():
    old = a_decision("reject", content="0" * 16)
    about = standing([old, a_decision()])[a_record().id]

    assert (about.fresh(HERE), about.stale(HERE)) == ((a_decision(),), ())
    assert (about.fresh("0" * 16), about.stale("0" * 16)) == ((old,), ())


def test_what_stands_is_told_of_the_records_that_are_there():
    found = [a_decision("reject"), a_decision(), a_decision(id="gone"), a_decision(reviewer="bob", content="0" * 16)]

    assert fresh(found, {a_record().id: HERE}) == [a_decision()]


EDITED = a_record(question="改过的问题？", repairs=("fence", "review"))


@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        ([], None),
        ([a_decision("reject", content="0" * 16)], None),
        ([a_decision()], a_record(repairs=("fence",))),
        ([a_decision("edit")], EDITED),
        ([a_decision("edit"), a_decision(reviewer="bob")], EDITED),
        ([a_decision("edit"), a_decision("edit", reviewer="bob", item=an_item(answer="C"))],
         a_record(answer="C", repairs=("fence", "review"))),
        ([a_decision("edit"), a_decision()], a_record(repairs=("fence",))),
        ([a_decision("reject")], Dropped("rejected_by_reviewer", "ann: wrong_answer")),
        ([a_decision("edit"), a_decision("reject", reviewer="bob", reason="other", note="见\n注")],
         Dropped("rejected_by_reviewer", "bob: other, 见\n注")),
        ([a_decision("reject"), a_decision("reject", reviewer="bob", reason="unclear")],
         Dropped("rejected_by_reviewer", "ann: wrong_answer; bob: unclear")),
        ([a_decision("reject"), a_decision()], a_record(repairs=("fence",))),
    ],
)  # fmt: skip
def test_a_reject_drops_a_record_else_the_newest_edit_takes_its_place(decided, expected):
    about = standing(decided).get(a_record().id)

    assert verdict(a_record(repairs=("fence",)), about) == expected


# --- rates -----------------------------------------------------------------------------------------------------------


def test_a_record_is_accepted_if_nobody_rejects_or_edits_it():
    decided = [
        a_decision(id="1"),
        a_decision(id="1", reviewer="bob"),
        a_decision(id="2"),
        a_decision("edit", id="2", reviewer="bob"),
        a_decision("reject", id="3"),
        a_decision(id="3", reviewer="bob"),
        a_decision(id="gone"),
    ]

    found = rates(decided, {"1": "economy", "2": "economy", "3": "history", "4": "law"})

    assert (found.all.accepted, found.all.reviewed, found.all.accept) == (1, 3, pytest.approx(1 / 3))
    assert {topic: (rate.accepted, rate.reviewed) for topic, rate in found.topics.items()} == {
        "economy": (1, 2),
        "history": (0, 1),
    }
    assert (found.all.low, found.all.high) == wilson(1, 3)


def test_records_shown_for_a_risk_do_not_count_in_the_rate():
    decided = [a_decision(id="1"), a_decision("reject", id="2", by_chance=False)]

    found = rates(decided, {"1": "economy", "2": "economy"})

    assert (found.all.reviewed, found.all.accepted) == (1, 1)


def test_nothing_reviewed_has_no_rate():
    found = rates([], {"1": "economy"})

    assert (found.all.reviewed, found.all.accept, found.all.low, found.topics) == (0, None, None, {})


def both(*verdicts: tuple[str, str]) -> list[Decision]:
    """What ann and bob decided about one record after the other."""
    return [
        a_decision(verdict, id=str(number), reviewer=name)
        for number, pair in enumerate(verdicts)
        for name, verdict in zip(("ann", "bob"), pair, strict=True)
    ]


@pytest.mark.parametrize(
    ("verdicts", "agreed", "expected"),
    [
        # The table of Cohen's kappa that textbooks show: 20, 5, 10 and 15 of 50.
        ([("accept", "accept")] * 20 + [("accept", "reject")] * 5 + [("reject", "accept")] * 10
         + [("reject", "edit")] * 15, 35, 0.4),
        ([("accept", "accept"), ("reject", "edit")], 2, 1.0),
        ([("accept", "reject"), ("reject", "accept")], 0, -1.0),
        ([("accept", "accept")] * 3, 3, None),
        ([("accept", "accept"), ("accept", "reject")], 1, 0.0),
    ],
)  # fmt: skip
def test_kappa_is_cohens(verdicts, agreed, expected):
    [found] = kappa(both(*verdicts))

    assert (found.reviewers, found.records, found.agreed) == (("ann", "bob"), len(verdicts), agreed)
    assert found.kappa == (None if expected is None else pytest.approx(expected))


def test_each_two_reviewers_are_compared_over_what_both_saw():
    decided = [
        *both(("accept", "accept"), ("accept", "reject")),
        a_decision(id="0", reviewer="cid"),
        a_decision(id="1", reviewer="cid", content="0" * 16),
        a_decision(id="9", reviewer="dan"),
    ]

    assert [(found.reviewers, found.records) for found in kappa(decided)] == [
        (("ann", "bob"), 2),
        (("ann", "cid"), 1),
        (("bob", "cid"), 1),
    ]


# --- times -----------------------------------------------------------------------------------------------------------


def test_a_stamp_is_utc_and_read_back():
    noon = datetime(2026, 1, 31, 20, 0, 0, 5000, timezone(timedelta(hours=8)))

    assert stamp(noon) == "2026-01-31T12:00:00.005Z"
    assert moment(stamp(noon)) == noon.astimezone(UTC)
    assert parse(msgspec.json.encode(replace(a_decision(), at=stamp(noon))) + b"\n", "d")


def test_the_file_of_the_repository_is_valid():
    assert isinstance(read(Path("curate/decisions.jsonl")), list)
