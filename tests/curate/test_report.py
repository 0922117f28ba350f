from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from curate.report import headline, main, sections
from curate.reporting.attention import findings
from curate.reporting.figures import figures
from curate.reporting.tallies import Rejects
from schemas.page import Bars, Details, Part, Table
from tests.browser import browser, complaints, look, overflows, requests_of, screenshot
from tests.curate.builders import a_record
from tests.curate.qualities import a_bank, a_quality, a_reject, put

YAML_ = YAML(typ="safe", pure=True)
STAGE = YAML_.load(Path("dvc.yaml").read_text("utf-8"))["stages"]["report"]
HOSTILE = '<script>fetch("http://a.example/")</script><img src=x onerror=alert(1)>'


def parts_of(parts: tuple[Part, ...]) -> list[Part]:
    return [found for part in parts for found in (part, *(parts_of(part.parts) if isinstance(part, Details) else ()))]


def a_version(folder: Path, **changes: Any) -> None:
    rejects = [
        a_reject(),
        a_reject(id="2", stage="validate", reason="not_xml", raw=HOSTILE, kept=None),
        a_reject(id="3", stage="split", reason="twin_of_held_out", topic="environment"),
    ]
    put(folder, a_quality(**changes), a_bank(question="《巴黎协定》是在哪一年通过的？"), rejects)


def report(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.chdir(folder)
    return CliRunner().invoke(main, list(arguments))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parts[len(folder.parts)] in ("report", "plots", "metrics")
    }


def test_the_command_needs_no_argument_where_dvc_gives_all(tmp_path, monkeypatch):
    assert [str(parameter.default) for parameter in main.params] == STAGE["cmd"].split()[3:]

    a_version(tmp_path)
    done = report(tmp_path, monkeypatch)

    assert done.exit_code == 0, done.output
    assert done.output.startswith("report: 1,200 records, ")
    assert done.output.endswith("report/quality.html\n")
    assert {*STAGE["outs"], *STAGE["metrics"]} <= set(files_of(tmp_path))


def test_what_is_read_is_among_the_deps(tmp_path, monkeypatch):
    """All files that are not deps are missing here: with one that were read it would fail."""
    a_version(tmp_path)
    read = {
        str(path.relative_to(tmp_path))
        for folder in ("data", "metrics", "curate")
        for path in (tmp_path / folder).rglob("*.json*")
    }
    asked = {name for name in read if name.startswith("metrics/generate/")}

    assert asked
    assert read - asked == {
        name for name in STAGE["deps"] if name.startswith(("data/", "metrics/")) or name.endswith("decisions.jsonl")
    } - {"metrics/generate"}
    assert report(tmp_path, monkeypatch).exit_code == 0


def test_the_same_files_give_the_same_bytes(tmp_path, monkeypatch):
    a_version(tmp_path)
    written = []

    for _ in range(2):
        assert report(tmp_path, monkeypatch).exit_code == 0
        written.append(files_of(tmp_path))

    assert written[0] == written[1]


def test_every_figure_is_drawn_once_and_every_finding_listed():
    quality = a_quality(rejects=Rejects(reasons=Counter({("dedup", "conflict"): 3})))
    drawn = figures(quality)

    made = sections(quality, drawn)

    titles = [part.title for section in made for part in parts_of(section.parts) if isinstance(part, Bars)]
    assert sorted(titles) == sorted(figure.title for figure in drawn.values() if figure.rows)
    tables = [part for part in made[0].parts if isinstance(part, Table)]
    assert [row[0] for row in tables[0].rows] == [finding.what for finding in findings(quality)] == ["many are dropped"]


def test_a_page_without_models_says_what_to_run(tmp_path, monkeypatch):
    a_version(tmp_path)
    for name in ("metrics/score.json", "metrics/pairs.json", "data/rejects/pairs.jsonl"):
        (tmp_path / name).unlink()

    done = report(tmp_path, monkeypatch)

    page = (tmp_path / "report/quality.html").read_text("utf-8")
    assert done.exit_code == 0, done.output
    assert "metrics/score.json is not there yet: dvc repro score." in page
    assert "metrics/pairs.json is not there yet: dvc repro pairs." in page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data/test.jsonl", "data/test.jsonl: No such file or directory; an earlier stage writes it, run `dvc repro`"),
        (
            "metrics/gate.json",
            "metrics/gate.json: No such file or directory; its stage writes it, run `dvc repro gate`",
        ),
        ("data/asked/judge.jsonl", "data/asked/judge.jsonl: No such file or directory; an earlier stage writes it"),
    ],
)
def test_a_file_that_is_missing_is_named_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, name, said):
    a_version(tmp_path)
    (tmp_path / name).unlink()

    done = report(tmp_path, monkeypatch)

    assert done.exit_code == 1
    assert done.output.startswith(said)
    assert done.output.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_a_bank_without_a_record_has_a_page_too():
    quality = a_quality([], pairs=None, score=None)

    assert headline(quality)["yield"] is None
    assert sections(quality, figures(quality))


def test_the_headline_is_flat_numbers():
    numbers = headline(a_quality())

    assert {type(value) for value in numbers.values()} <= {int, float}
    assert numbers["records"] == 1200
    assert numbers["accuracy_plain"] == 0.9
    assert numbers["attention"] == 0
    assert msgspec.json.encode(numbers)


def test_the_page_is_read_in_a_browser_with_no_network(tmp_path, monkeypatch):
    a_version(tmp_path)
    assert report(tmp_path, monkeypatch).exit_code == 0
    page = tmp_path / "report/quality.html"

    with browser() as driver:
        for width in (1280, 390):
            for dark in (False, True):
                look(driver, width, dark)
                driver.get(page.as_uri())
                assert not overflows(driver), (width, dark)
                screenshot(driver, f"report-{width}-{'dark' if dark else 'light'}")
        headings = [heading.text for heading in driver.find_elements("css selector", "h2")]
        shown = driver.execute_script("return document.body.textContent")
        asked = requests_of(driver)
        said = complaints(driver)

    assert headings[:3] == ["Look at first", "From reply to record", "Rejects"]
    assert HOSTILE in shown
    assert {url for url in asked if not url.startswith("file:")} == set()
    assert said == []


def test_chinese_is_on_the_page_as_it_is(tmp_path, monkeypatch):
    a_version(tmp_path)

    report(tmp_path, monkeypatch)

    assert a_record().question in (tmp_path / "report/quality.html").read_text("utf-8")
