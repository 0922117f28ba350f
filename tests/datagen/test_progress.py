import os
import pty
import re
import subprocess
import sys

import pytest

from datagen import progress
from datagen.client import Reply
from datagen.dialogue import Done
from datagen.progress import Progress, duration
from datagen.settings import Price

A_REPLY = Reply("x", "stop", "m", 400_000, 50_000)
VALID = Done((A_REPLY,), None, ())
REJECTED = Done((A_REPLY,), "not_xml: x", ())
PRICE = Price(1.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (40, "40 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (725, "12 min"),
        (3599, "60 min"),
        (3600, "1.0 h"),
        (12_600, "3.5 h"),
        (360_000, "100.0 h"),
    ],
)
def test_a_time_is_said_as_a_person_says_it(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("steps", "price", "said"),
    [
        ([], PRICE, "0 of 2,000, 0 rejected, cost 0.00"),
        ([(VALID, True)] * 3, PRICE, "3 of 2,000, 0 rejected, cost 0.00"),
        ([(VALID, False)], PRICE, "1 of 2,000, 0 rejected, cost 0.50, "),
        ([(VALID, True), (REJECTED, False)], PRICE, "2 of 2,000, 1 rejected, cost 0.50, "),
        ([(VALID, False), (None, False)], PRICE, "1 of 2,000, 0 rejected, cost 0.50, "),
        ([(VALID, False), (VALID, False)], None, "2 of 2,000, 0 rejected, 900,000 tokens, "),
    ],
)
def test_the_state_in_a_line_says_what_is_done_and_what_it_cost_and_foretells_by_what_was_asked(steps, price, said):
    found = Progress("fetch", {"economy": 1500, "education": 500}, price)

    for done, stored in steps:
        found.step("economy", done, stored=stored)
        if done and not stored:
            found.pay("economy", A_REPLY)

    assert re.fullmatch(re.escape(said) + (r"\d+ s left" if said.endswith(" ") else ""), found.said())


def test_the_time_that_is_left_is_foretold_by_what_this_run_asked_not_by_what_it_found():
    found = Progress("fetch", {"economy": 10}, PRICE)
    for stored in [True] * 6 + [False] * 2:
        found.step("economy", VALID, stored=stored)

    found._began -= 600

    assert found.said() == "8 of 10, 0 rejected, cost 0.00, 10 min left"


def test_counts_are_of_the_run_and_of_the_store_apart():
    found = Progress("fetch", {"economy": 9}, None)

    for done, stored in [(VALID, True), (REJECTED, True), (VALID, False), (None, False)]:
        found.step("economy", done, stored=stored)

    assert (found.done, found.asked, found.stored) == (3, 1, 2)
    assert (found.valid, found.rejected, found.unanswered) == (2, 1, 1)


def test_away_from_a_terminal_a_plain_line_comes_now_and_then(project, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", -1.0)

    lines = project.invoke("fetch").stderr.splitlines()

    assert len(lines) == 25
    assert re.fullmatch(r"fetch: 1 of 24, 0 rejected, cost 0\.00, \d+ s left", lines[0])
    assert lines[23] == "fetch: 24 of 24, 0 rejected, cost 0.04, 0 s left"
    assert not [line for line in lines if not line.isprintable()]


def test_a_short_run_away_from_a_terminal_says_one_line_at_its_end(project):
    assert project.invoke("fetch").stderr.count("\n") == 1


def on_a_terminal(*args: str) -> str:
    """What a command writes to stderr where that is a terminal."""
    screen, line = pty.openpty()
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    command = [sys.executable, "-m", "datagen", *args]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=line, env=environ)
    os.close(line)
    parts = []
    try:
        while part := os.read(screen, 65536):
            parts.append(part)
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(screen)
    assert process.wait() == 0
    return b"".join(parts).decode()


def text(shown: str) -> str:
    """What was written, the cursor's moves aside: all states of the bars, one after the other."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown).replace("\r", "")


def test_at_a_terminal_each_topic_has_a_bar_and_all_together(project, serve):
    _, base_url = serve(malformed=0.3, stubborn=True, seed=4)
    project.params(base_url=base_url, reasks=0)

    shown = on_a_terminal("fetch")

    valid = project.rows("SELECT topic, count(*) FROM replies JOIN requests USING (key) WHERE fault IS NULL GROUP BY 1")
    for topic, count in [*valid, ("all", sum(count for _, count in valid))]:
        total = 24 if topic == "all" else 12
        assert re.search(rf"{topic} +━+ {total}/{total} {count} valid {total - count} rejected +cost", text(shown))
    assert "\x1b[" in shown
    assert re.search(
        r"^fetch: \d+ of 24 valid, \d+ rejected, 0 without a reply, 24 asked now", text(shown), re.MULTILINE
    )


def test_at_a_terminal_one_topic_has_one_bar(project):
    shown = on_a_terminal("generate", "economy", str(project.out), str(project.metrics))

    assert re.search(r"economy +━+ 12/12 12 valid 0 rejected cost 0\.02", text(shown))
    assert not re.search(r"all +━", text(shown))


def test_a_run_over_nothing_shows_nothing(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    with Progress("verify", {}, None) as found:
        assert found.total == 0
