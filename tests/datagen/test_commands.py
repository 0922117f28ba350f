"""The commands beside the stage, each run as a person runs it."""

import re
import socket
import subprocess
import sys

import httpx
import msgspec
import pytest

from datagen.__main__ import main
from datagen.regen import raised
from datagen.teacher.server import create_app
from schemas import rows
from schemas.record import Response

COMMANDS = ("generate", "fetch", "plan", "status", "regen", "show", "teacher")


def test_help_lists_every_command_and_imports_nothing_heavy(project):
    code = (
        "import sys\nfrom datagen.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('heavy:', sorted({'openai', 'jinja2', 'uvicorn', 'tqdm', 'lxml'} & set(sys.modules)))"
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


def numbers(shown: str, name: str) -> list[int]:
    """The figures of a line of a table."""
    return [int(word) for word in re.search(rf"^{name} +(.*)$", shown, re.MULTILINE)[1].split()]


def test_plan_says_what_is_stored_and_what_is_still_to_ask(project):
    assert numbers(project.invoke("plan").stdout, "total") == [8, 24, 0, 24]

    project.generate()

    shown = project.invoke("plan").stdout
    assert numbers(shown, "economy") == [4, 12, 12, 0]
    assert numbers(shown, "education") == [4, 12, 0, 12]
    assert numbers(project.invoke("plan", "education").stdout, "total") == [4, 12, 0, 12]


def test_fetch_fills_the_store_for_all_topics_and_generate_asks_nothing_more(project, serve):
    teacher, base_url = serve()
    project.params(base_url=base_url)

    result = project.invoke("fetch")

    assert result.exit_code == 0
    assert result.stderr == "fetch: 24 of 24 valid, 0 rejected, 0 without a reply, 24 asked now\n"
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


def test_status_counts_what_the_store_holds(project, serve):
    _teacher, base_url = serve(malformed=1)
    project.params(base_url=base_url)
    project.generate()

    shown = project.invoke("status").stdout

    assert numbers(shown, "economy")[:6] == [24, 12, 12, 24, 0, 0]
    assert str(project.store) in shown


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
        ("topics:\n  a:\n    round:   3   # c\n    name: 甲\n", "topics:\n  a:\n    round:   4   # c\n    name: 甲\n"),
        ('topics:\r\n  "a": {round: 0,name: "x"}\r\n', 'topics:\r\n  "a": {round: 1,name: "x"}\r\n'),
    ],
)
def test_regen_keeps_comments_and_layout(text, after):
    assert raised(text, "a")[0] == after


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
