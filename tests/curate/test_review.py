import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from curate import decisions
from curate.review import HEADERS, MAX_BODY, Door, application, ended, main, places, reviewer_of
from curate.reviewing.desk import Desk
from schemas.faults import Fault
from tests.curate.reviewing import Project, a_draft, a_wish

PORT = 8765
OWN = {"Origin": f"http://127.0.0.1:{PORT}", "Sec-Fetch-Site": "same-origin"}


class Client(TestClient):
    """A browser that follows no redirect and has come in."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch, come_in: bool = True) -> None:
        monkeypatch.chdir(project.folder)
        self.door = Door(PORT)
        self.desk = Desk(places(), "ann", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        app = application(self.desk, self.door)
        super().__init__(app, base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False)
        if come_in:
            self.get("/", params={"token": self.door.token})


def a_post(project: Project, **changes: object) -> dict[str, object]:
    """What the page sends to accept the first record."""
    record = project.records[0]
    return a_wish(record, decisions.content(record)) | changes


def test_the_token_becomes_a_cookie_and_leaves_the_address(tmp_path: Path, monkeypatch):
    client = Client(Project(tmp_path), monkeypatch, come_in=False)

    reply = client.get("/", params={"token": client.door.token})

    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.door.token not in cookie
    assert client.get("/").status_code == 200


def test_the_token_that_a_browser_is_started_with_counts_once(tmp_path: Path, monkeypatch):
    client = Client(Project(tmp_path), monkeypatch, come_in=False)
    [once] = client.door.once

    replies = [client.get("/", params={"token": once}).status_code for _ in range(2)]

    assert replies == [303, 403]


@pytest.mark.parametrize("path", ["/", "/list", "/state", "/row?id=1", "/summary", "/review.js", "/review.css", "/x"])
@pytest.mark.parametrize("cookie", [None, "", "guessed", "é"])
def test_without_the_cookie_nothing_is_told(tmp_path: Path, monkeypatch, path, cookie):
    client = Client(Project(tmp_path), monkeypatch, come_in=False)
    headers = {} if cookie is None else {"Cookie": f"{client.door.cookie}={cookie}".encode()}

    reply = client.get(path, headers=headers)

    assert reply.status_code == 403
    assert reply.json()["error"].startswith("Open the address that `curate review` printed")


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_a_wrong_token_is_turned_away(tmp_path: Path, monkeypatch, token):
    reply = Client(Project(tmp_path), monkeypatch, come_in=False).get("/", params={"token": token})

    assert reply.status_code == 403
    assert "set-cookie" not in reply.headers


def test_a_token_is_for_the_front_page_only(tmp_path: Path, monkeypatch):
    client = Client(Project(tmp_path), monkeypatch, come_in=False)

    assert client.get("/list", params={"token": client.door.token}).status_code == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (f"127.0.0.1:{PORT}", 200),
        (f"localhost:{PORT}", 200),
        ("127.0.0.1", 421),
        ("127.0.0.1:80", 421),
        (f"evil.example:{PORT}", 421),
        (f"127.0.0.1.evil.example:{PORT}", 421),
        (f"127.0.0.1:{PORT}@evil.example", 421),
        (f"[::1]:{PORT}", 421),
        ("", 421),
    ],
)
def test_another_host_name_is_turned_away_even_with_the_cookie(tmp_path: Path, monkeypatch, host, status):
    client = Client(Project(tmp_path), monkeypatch)

    assert client.get("/state", headers={"Host": host}).status_code == status
    assert client.get("/", params={"token": "x"}, headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN, 200),
        ({"Origin": OWN["Origin"]}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": f"https://127.0.0.1:{PORT}"}, 403),
        ({"Origin": f"http://localhost:{PORT}"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        (OWN | {"Sec-Fetch-Site": "same-site"}, 403),
        (OWN | {"Sec-Fetch-Site": "cross-site"}, 403),
        (OWN | {"Sec-Fetch-Site": "none"}, 403),
        (OWN | {"Content-Type": "text/plain"}, 415),
        (OWN | {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (OWN | {"Content-Type": ""}, 415),
        (OWN | {"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_only_the_page_itself_may_change_something(tmp_path: Path, monkeypatch, headers, status):
    project = Project(tmp_path)
    client = Client(project, monkeypatch)

    reply = client.post("/decide", json=a_post(project), headers=headers)

    assert reply.status_code == status
    assert len(project.decided()) == (status == 200)


@pytest.mark.parametrize("path", ["/decide", "/check"])
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"id": "x"}', 400),
        (b"\xff\xfe", 400),
        (b'{"id": "\\ud800"}', 400),
        (b"[" * 100_000, 400),
        (b" " * (MAX_BODY + 1), 413),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(tmp_path: Path, monkeypatch, path, content, status):
    project = Project(tmp_path)
    client = Client(project, monkeypatch)

    reply = client.post(path, content=content, headers=OWN | {"Content-Type": "application/json"})

    assert reply.status_code == status
    assert "\n" not in reply.json()["error"]
    assert project.decided() == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"id": "nobody"}, 404),
        ({"content": "0" * 16}, 409),
        ({"verdict": "reject", "reason": "dull"}, 422),
        ({"verdict": "reject", "reason": None}, 422),
        ({"verdict": "perhaps"}, 400),
        ({"note": "x" * 2001}, 400),
        ({"reviewer": "bob"}, 400),
    ],
)
def test_a_decision_is_made_about_what_was_seen_or_not_at_all(tmp_path: Path, monkeypatch, change, status):
    project = Project(tmp_path)
    client = Client(project, monkeypatch)

    reply = client.post("/decide", json=a_post(project, **change), headers=OWN)

    assert reply.status_code == status
    assert [made.reviewer for made in project.decided()] == (["ann"] if status == 200 else [])
    assert ("error" in reply.json()) == (status != 200)


def test_an_edit_is_checked_without_being_written(tmp_path: Path, monkeypatch):
    project = Project(tmp_path)
    record = project.records[0]
    edit = {"id": record.id, "item": a_draft(record, question="何年？")}

    reply = Client(project, monkeypatch).post("/check", json=edit, headers=OWN)

    failed = [{"code": "question_too_short", "detail": "3 characters, at least 6"}]
    assert reply.json() == {"passed": 18, "failed": failed, "changed": True}
    assert project.decided() == []


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/openapi.json",
        "/curate/decisions.jsonl",
        "/data/decontaminated.jsonl",
        "/../params.yaml",
        "/%2e%2e/params.yaml",
        "/..%2fparams.yaml",
        "//etc/passwd",
        "/review.py",
        "/review.js/",
        "/favicon.ico",
    ],
)
def test_there_is_nothing_but_the_page(tmp_path: Path, monkeypatch, path):
    reply = Client(Project(tmp_path), monkeypatch).get(f"http://127.0.0.1:{PORT}{path}")

    assert reply.status_code == (307 if path == "/review.js/" else 404)


@pytest.mark.parametrize("id_", ["", "nobody", "../../params.yaml", "%00", "é"])
def test_an_unknown_row_is_not_found(tmp_path: Path, monkeypatch, id_):
    reply = Client(Project(tmp_path), monkeypatch).get("/row", params={"id": id_})

    assert reply.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/", 200),
        ("HEAD", "/list", 200),
        ("OPTIONS", "/decide", 405),
        ("OPTIONS", "/", 405),
        ("GET", "/decide", 405),
        ("PUT", "/decide", 405),
        ("DELETE", "/list", 405),
        ("TRACE", "/", 405),
    ],
)
def test_other_methods_do_nothing(tmp_path: Path, monkeypatch, method, path, status):
    headers = OWN | {"Content-Type": "application/json"}

    reply = Client(Project(tmp_path), monkeypatch).request(method, path, headers=headers)

    assert reply.status_code == status
    assert "access-control-allow-origin" not in reply.headers
    assert method != "HEAD" or reply.content == b""


@pytest.mark.parametrize("path", ["/", "/review.js", "/review.css", "/list", "/row?id=x", "/nowhere", "/decide"])
@pytest.mark.parametrize("come_in", [True, False])
def test_each_reply_has_the_headers_that_keep_the_page_to_itself(tmp_path: Path, monkeypatch, path, come_in):
    reply = Client(Project(tmp_path), monkeypatch, come_in).get(path)

    assert {name: reply.headers.get(name) for name in HEADERS} == HEADERS
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "server" not in reply.headers


def test_the_summary_may_run_its_own_style_and_script_alone(tmp_path: Path, monkeypatch):
    reply = Client(Project(tmp_path), monkeypatch).get("/summary")

    policy = reply.headers["content-security-policy"]
    assert reply.status_code == 200
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["/list", "/state", "/row?id=x", "/summary"])
def test_a_file_that_a_stage_is_writing_anew_is_a_line_and_no_end(tmp_path: Path, monkeypatch, path):
    project = Project(tmp_path)
    client = Client(project, monkeypatch)
    (tmp_path / "data" / "decontaminated.jsonl").unlink()

    reply = client.get(path)

    assert reply.status_code == 503
    assert "data/decontaminated.jsonl: No such file or directory; `dvc repro` writes it" in reply.text
    project.hold(project.records)
    assert client.get("/list").status_code == 200


def test_a_decision_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch):
    project = Project(tmp_path)
    client = Client(project, monkeypatch)
    client.get("/list")
    project.decisions.write_text('{"id":"cut off')

    reply = client.post("/decide", json=a_post(project), headers=OWN)

    assert reply.status_code == 503
    assert "decisions.jsonl:1: " in reply.json()["error"]
    assert project.decisions.read_text() == '{"id":"cut off'


def test_what_was_decided_is_told_at_the_end(tmp_path: Path, monkeypatch):
    project = Project(tmp_path)
    client = Client(project, monkeypatch)

    assert ended(client.desk) == "review: nothing now; 0 of 12 rows decided by ann"
    client.post("/decide", json=a_post(project), headers=OWN)
    assert ended(client.desk) == "review: 1 accepted now; 1 of 12 rows decided by ann; `dvc repro` applies them"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1bb"])
def test_a_reviewer_has_a_plain_name(name):
    with pytest.raises(Fault, match="give yours by --reviewer"):
        reviewer_of(name)


def test_the_name_is_that_of_git_where_none_is_given(tmp_path: Path, monkeypatch):
    (tmp_path / "config").write_text("[user]\n\tname = 李 雷\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    assert reviewer_of(None) == "李 雷"


def test_nobody_reviews_without_a_name(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Fault, match="nobody's name"):
        reviewer_of(None)


def test_a_port_in_use_is_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(Project(tmp_path).folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        found = CliRunner().invoke(main, ["--reviewer", "ann", "--port", str(port), "--no-open"])

    assert (found.exit_code, found.output) == (1, f"review: port {port} is in use; give another by --port\n")


def test_missing_data_is_one_line_before_anything_is_served(tmp_path: Path, monkeypatch):
    project = Project(tmp_path)
    monkeypatch.chdir(project.folder)
    (tmp_path / "data" / "asked" / "judge.jsonl").unlink()

    found = CliRunner().invoke(main, ["--reviewer", "ann", "--port", "0", "--no-open"])

    assert found.exit_code == 1
    assert found.output.startswith("data/asked/judge.jsonl: No such file or directory; `dvc repro` writes it")


def test_the_command_serves_until_ctrl_c(tmp_path: Path):
    process = Project(tmp_path).start("--reviewer", "ann", "--port", "0")
    assert process.stdout is not None
    address = process.stdout.readline()

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    assert address.startswith("review: http://127.0.0.1:")
    assert "/?token=" in address
    assert out == "review: nothing now; 0 of 12 rows decided by ann\n"
    assert (process.returncode, err) == (0, "")


def test_other_tools_are_served_by_subcommands():
    help_ = CliRunner().invoke(main, ["--help"]).output

    assert "export" in help_
    assert "import" in help_
