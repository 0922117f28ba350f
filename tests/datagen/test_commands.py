"""The commands beside the stage, each run as a person runs it."""

import re
import socket
import subprocess
import sys

import httpx
import msgspec
import pytest

from datagen.__main__ import main
from datagen.grid import Body, Request
from datagen.regen import with_round
from datagen.store import Store
from datagen.teacher.server import create_app
from schemas import rows
from schemas.record import Response

STAGES = ("generate", "verify", "judge", "improve", "vary", "contrast", "translate")
COMMANDS = (*STAGES, "fetch", "batch", "plan", "status", "regen", "again", "show", "teacher")
HEAVY = {"aiohttp", "jinja2", "lxml", "openai", "rich", "tenacity", "uvicorn", "uvloop"}


def test_help_lists_every_command_and_imports_nothing_heavy(project):
    code = (
        "import sys\nfrom datagen.__main__ import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print('heavy:', sorted({HEAVY} & set(sys.modules)))"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout

    assert all(re.search(rf"^  {command} ", shown, re.MULTILINE) for command in COMMANDS)
    assert "heavy: []" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(project, command):
    assert project.invoke(command, "--help").exit_code == 0
    assert tuple(main.modules) == COMMANDS


@pytest.mark.parametrize(
    "args", [("generate", "econmy", "o", "m"), ("fetch", "econmy"), ("plan", "econmy"), ("regen", "econmy")]
)
def test_an_unknown_topic_is_answered_by_the_nearest(project, args):
    result = project.invoke(*args)

    assert result.exit_code == 1
    assert result.stderr == "params.yaml: topics.econmy: no such topic; did you mean economy?\n"


def line(shown: str, name: str) -> list[str]:
    """The words of a line of a table, after its name."""
    return re.search(rf"^{name} +(.*)$", shown, re.MULTILINE)[1].split()


def number(shown: str, pattern: str) -> float:
    """The number that a message gives at the place of N."""
    return float(re.search(pattern.replace("N", r"([\d.,]+)"), shown)[1].replace(",", ""))


@pytest.mark.parametrize("command", [("plan",), ("status",), ("status", "--cells"), ("show", "0123456789")])
def test_whoever_only_looks_leaves_nothing_on_the_disk(project, command):
    before = sorted(project.folder.rglob("*"))

    project.invoke(*command)

    assert sorted(project.folder.rglob("*")) == before


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_says_what_is_stored_and_what_is_still_to_ask(project):
    assert line(project.invoke("plan").stdout, "total") == ["8", "24", "0", "24"]

    project.generate()

    shown = project.invoke("plan").stdout
    assert line(shown, "economy") == ["4", "12", "12", "0"]
    assert line(shown, "education") == ["4", "12", "0", "12"]
    assert line(project.invoke("plan", "education").stdout, "total") == ["4", "12", "0", "12"]


def test_plan_says_what_it_comes_to_at_most_before_anything_was_asked(project):
    shown = project.invoke("plan").stdout

    assert "`datagen plan --try 20` asks 20 of them and says what to expect" in shown
    most = number(shown, "\nat most N tokens")
    cost = number(shown, "cost at most N;")
    project.invoke("fetch")
    spent = project.rows("SELECT sum(prompt_tokens), sum(completion_tokens) FROM attempts")[0]
    assert sum(spent) < most < 24 * 10_000
    assert (spent[0] + 2 * spent[1]) / 1e6 < cost < 0.5


def test_plan_tries_as_many_as_it_is_told_evenly_over_the_grid_and_foretells_the_rest(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url, samples=25)

    result = project.invoke("plan", "--try", "20")

    assert result.exit_code == 0
    assert teacher.calls.total() == 20
    tried = project.rows("SELECT count(*) FROM requests GROUP BY topic, difficulty, type")
    assert sorted(tried) == [(2,)] * 4 + [(3,)] * 4
    assert line(result.stdout, "total") == ["8", "200", "20", "180"]
    before = project.rows("SELECT sum(prompt_tokens), sum(completion_tokens) FROM attempts")[0]

    project.invoke("fetch")

    after = project.rows("SELECT sum(prompt_tokens), sum(completion_tokens) FROM attempts")[0]
    tokens, cost = sum(after) - sum(before), (after[0] - before[0] + 2 * (after[1] - before[1])) / 1e6
    assert number(result.stdout, "about N tokens ±") == pytest.approx(tokens, rel=0.1)
    assert number(result.stdout, "cost N, .* by 20 such requests") == pytest.approx(cost, rel=0.1, abs=0.005)
    assert "nothing to ask" in project.invoke("plan", "--try", "20").stdout
    assert teacher.calls.total() == 200


def test_plan_tries_no_more_than_is_missing(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()

    assert line(project.invoke("plan", "--try", "1000").stdout, "total") == ["8", "24", "24", "0"]
    assert teacher.calls.total() == 24


def test_plan_does_not_take_an_unknown_price_for_nothing(project):
    project.params(prices="{}")
    project.generate()

    assert "cost unknown: prices.embedded is missing" in project.invoke("plan").stdout


def test_plan_says_what_has_been_spent_of_what_may_be(project):
    project.params(calls=100, tokens=1_000_000, money=2.5)
    project.generate()

    shown = project.invoke("plan").stdout

    assert re.search(r"spent so far: 12 calls of 100, [\d,]+ tokens of 1,000,000, cost 0\.02 of 2\.5;", shown)


# --- fetch -----------------------------------------------------------------------------------------------------------


def test_fetch_fills_the_store_for_all_topics_and_generate_asks_nothing_more(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)

    result = project.invoke("fetch")

    assert result.exit_code == 0
    assert result.stderr == "fetch: 24 of 24 valid, 0 rejected, 0 without a reply, 24 asked now, cost 0.04\n"
    assert "0 asked now" in project.generate().stderr
    assert teacher.calls.total() == 24


def test_fetch_takes_the_topics_it_is_given(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)

    assert "12 of 12 valid" in project.invoke("fetch", "education").stderr
    assert teacher.calls.total() == 12


def test_a_run_that_is_stopped_counts_all_that_the_store_holds(project, serve):
    teacher = create_app()

    async def closing(scope, receive, send):
        if teacher.calls.total() < 12:
            await teacher(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    project.params(base_url=serve(closing)[1])
    project.invoke("fetch", "education")

    result = project.invoke("fetch")

    assert result.exit_code == 1
    assert "HTTP 401: no message; 12 of 24 are in the store, 12 are left" in result.stderr


def test_a_run_that_finds_all_it_wants_opens_and_imports_nothing(project):
    project.invoke("fetch")
    opened = HEAVY - {"jinja2", "lxml", "tenacity"}
    code = (
        "import sys\nfrom datagen.__main__ import main\n"
        "try: main(['fetch'])\n"
        f"except SystemExit: print('opened:', sorted({opened} & set(sys.modules)))"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert shown.stdout == "opened: []\n"
    assert "0 asked now" in shown.stderr


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_says_of_each_topic_what_is_wanted_valid_rejected_open_and_what_it_has_cost(project, serve):
    _, base_url = serve(malformed=0.5, stubborn=True, seed=2)
    project.params(base_url=base_url, reasks=1, min_yield=0.0)
    project.generate()
    valid = project.rows("SELECT count(*) FROM replies WHERE fault IS NULL")[0][0]
    prompt, completion = project.rows("SELECT sum(prompt_tokens), sum(completion_tokens) FROM replies")[0]
    cost = (prompt + 2 * completion) / 1e6

    shown = project.invoke("status").stdout

    rate, tokens = f"{valid / 12:.1%}", f"{prompt + completion:,}"
    assert 0 < valid < 12
    spent = [rate, tokens, f"{cost:.2f}", f"{cost / valid:.5f}"]
    assert line(shown, "economy") == ["12", str(valid), str(12 - valid), "0", *spent]
    assert line(shown, "education") == ["12", "0", "0", "12", "-", "0", "0.00", "-"]
    assert line(shown, "total") == ["24", str(valid), str(12 - valid), "12", *spent]


def test_status_says_the_same_of_each_cell(project):
    project.generate()

    shown = project.invoke("status", "--cells").stdout

    assert line(shown, "economy / basic / evaluative")[:5] == ["3", "3", "0", "0", "100.0%"]
    assert line(shown, "education / advanced / factual")[:5] == ["3", "0", "0", "3", "-"]
    assert line(shown, "total")[:5] == ["24", "12", "0", "12", "100.0%"]
    assert len(re.findall(r"^\w+ / \w+ / \w+ ", shown, re.MULTILINE)) == 8


def test_status_takes_the_topics_it_is_given(project):
    shown = project.invoke("status", "education").stdout

    assert line(shown, "total")[0] == "12"
    assert "economy" not in shown


def test_status_says_what_the_store_holds_whatever_params_say_now(project, serve):
    _teacher, base_url = serve(malformed=1)
    project.params(base_url=base_url)
    project.generate()
    project.params(base_url=base_url, max_tokens=2047)

    shown = project.invoke("status").stdout

    assert line(shown, "economy")[:2] == ["12", "0"]
    assert line(shown, "write")[:6] == ["embedded", "12", "12", "24", "0", "0"]
    assert f"{project.store}: all rounds, prompts and models" in shown


def test_status_sees_a_run_that_is_going_on_and_what_it_leaves_when_it_is_killed(project, serve, until):
    teacher, base_url = serve(hang=1)
    project.params(base_url=base_url, timeout=60)
    process = project.start("generate", "economy", str(project.out), str(project.metrics))
    until(lambda: teacher.serving == 4)
    during = project.invoke("status").stdout

    process.kill()
    process.communicate()

    assert "1 runs going on, 4 calls out, 0 calls lost by runs that were killed" in during
    assert "spent so far: 4 calls, " in during
    assert "0 runs going on, 0 calls out, 4 calls lost by runs that were killed" in project.invoke("status").stdout


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_leads_from_a_row_to_the_request_all_attempts_and_replies(project, serve):
    _teacher, base_url = serve(malformed=1)
    project.params(base_url=base_url)
    project.generate()
    row = next(rows.read(project.out, Response))

    shown = project.invoke("show", row.id[:10]).stdout

    assert f"request {row.id}" in shown
    assert "economy / basic / factual, sample 0, round 0" in shown
    assert "主题：经济发展（economy）" in shown
    assert ": bad, HTTP 200" in shown
    assert "--- verdict: wrong_shape: " in shown
    assert "asked again" in shown
    assert ": valid, HTTP 200" in shown
    assert shown.rstrip().endswith("--- verdict: valid")
    assert row.content in shown
    assert shown.count("主题：") == 1


@pytest.mark.parametrize(("prefix", "message"), [("0", "at least 4 characters"), ("zzzz", "nothing in .* begins so")])
def test_show_says_why_it_shows_nothing(project, prefix, message):
    project.generate()

    result = project.invoke("show", prefix)

    assert result.exit_code == 1
    assert re.search(message, result.stderr)


def test_show_names_the_ids_that_begin_alike(project):
    request = Request("economy", "basic", "factual", 0, 0, "here", Body("m", (), 1.0, 9, 0))
    with Store(project.store) as store:
        for key in ("abcd1" * 12, "abcd2" * 12):
            store.send(request, key, key, 0, 1.0)

    result = project.invoke("show", "ABCD")

    assert result.exit_code == 1
    assert result.stderr == "ABCD: several ids begin so: abcd1abcd1abcd1a, abcd2abcd2abcd2a\n"
    assert "attempt 1 at 1970-01-01T00:00:01+00:00: sent, HTTP -" in project.invoke("show", "abcd1").stdout


# --- regen -----------------------------------------------------------------------------------------------------------


def test_regen_raises_one_number_and_touches_nothing_else(project):
    path = project.folder / "params.yaml"
    before = path.read_text(encoding="utf-8")

    result = project.invoke("regen", "education", "--no-repro")

    assert result.stderr == "regen: education is at round 1\n"
    after = path.read_text(encoding="utf-8")
    assert after == before.replace("round: 0} # behind", "round: 1} # behind") != before


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            "topics:\n  a: {name: 甲, samples: 1, round: 9} # c\n",
            "topics:\n  a: {name: 甲, samples: 1, round: 10} # c\n",
        ),
        ("topics:\n  a:\n    round:   3   # c\n    name: 甲\n", "topics:\n  a:\n    round:   10   # c\n    name: 甲\n"),
        ('topics:\r\n  "a": {round: 0,name: "x"}\r\n', 'topics:\r\n  "a": {round: 10,name: "x"}\r\n'),
    ],
)
def test_regen_keeps_comments_and_layout(text, after):
    assert with_round(text, "a", 10) == after


def test_after_regen_all_of_the_topic_is_asked_anew(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)
    project.generate()
    first = project.out.read_bytes()

    project.invoke("regen", "economy", "--no-repro")

    assert "12 asked now" in project.generate().stderr
    assert teacher.calls.total() == 24
    assert project.out.read_bytes() != first


def test_regen_has_dvc_rebuild_what_follows(project):
    bin_ = project.folder / "bin"
    bin_.mkdir()
    (bin_ / "dvc").write_text('#!/bin/sh\necho "$@" > asked\nexit 7\n')
    (bin_ / "dvc").chmod(0o755)
    project.monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")

    result = project.invoke("regen", "economy")

    assert (project.folder / "asked").read_text() == "repro --downstream generate@economy\n"
    assert result.exit_code == 7


def test_regen_without_dvc_says_what_to_run(project):
    project.monkeypatch.setenv("PATH", "")

    result = project.invoke("regen", "economy")

    assert result.exit_code == 1
    assert "run `dvc repro --downstream generate@economy`" in result.stderr


# --- teacher ---------------------------------------------------------------------------------------------------------


def test_the_teacher_is_served_on_a_port_with_the_faults_asked_for(project, until):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = project.start("teacher", "--port", str(port), "--refuse", "1", "--retry-after", "5")
    try:
        assert f"http://127.0.0.1:{port}/v1" in process.stderr.readline()

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(answers)
        body = {"model": "embedded", "messages": [{"role": "user", "content": "x"}]}
        response = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", content=msgspec.json.encode(body))
    finally:
        process.terminate()
        process.communicate()

    assert response.status_code == 429
    assert response.headers["retry-after"] == "5"


def test_shares_above_one_are_refused(project):
    result = project.invoke("teacher", "--refuse", "0.6", "--error", "0.6")

    assert result.exit_code == 2
    assert "must not exceed 1 together" in result.stderr
