"""The page of `curate review` in a real browser, driven as a person would: mostly by keyboard."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from curate import decisions
from schemas.record import Decision
from tests.browser import browser, complaints, look, overflows, requests_of, screenshot
from tests.curate.builders import a_record
from tests.curate.reviewing import Project, judged, some_records

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</textarea><svg onload=\"document.title='owned'\">",
    "\u202e文字倒转\u202c与\u200b零宽",
    "{{constructor.constructor('alert(1)')()}} &lt;b&gt; ]]>",
)


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    """One browser for all tests; each has a server, and so an origin, of its own."""
    with browser() as driver:
        yield driver


class Page:
    """The page in the browser."""

    def __init__(self, driver: Chrome, address: str) -> None:
        self.driver = driver
        driver.get("about:blank")
        requests_of(driver), complaints(driver)  # those of tests before
        look(driver, 1280, False)
        driver.get(address)
        self.until(lambda: self.text("#row h1"))

    def until(self, true: Callable[[], object]) -> None:
        """Wait until something is so."""
        WebDriverWait(self.driver, 15, poll_frequency=0.03).until(lambda _: true())

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def chord(self, key: str) -> None:
        """Press a key with Ctrl."""
        ActionChains(self.driver, duration=0).key_down(Keys.CONTROL).send_keys(key).key_up(Keys.CONTROL).perform()

    def text(self, selector: str) -> str:
        """The text of an element, empty if it is not there."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.driver.execute_script(script, selector))

    def run(self, script: str, *args: object) -> object:
        """What a script returns."""
        return self.driver.execute_script(script, *args)

    def count(self) -> str:
        """How many are decided."""
        return self.text("#counts strong")

    def place(self) -> str:
        """Where in the list the row is."""
        return self.text("#row .meta span:nth-child(2)")

    def is_open(self, dialog: str) -> bool:
        """Whether a dialog is open."""
        return bool(self.run("return document.getElementById(arguments[0]).open", dialog))

    def can_save(self) -> bool:
        """Whether an edit may be saved."""
        return not self.run("return document.getElementById('save-edit').disabled")


def test_ten_rows_are_reviewed_by_keyboard_alone(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served() as address:
        page = Page(driver, address)
        assert "token" not in driver.current_url
        for number in range(1, 11):
            if number == 3:
                page.keys("r")
                page.until(lambda: page.is_open("rejecting"))
                page.keys("5", Keys.TAB, "题意不明", Keys.ENTER)
            elif number == 6:
                page.keys("r")
                page.until(lambda: page.is_open("rejecting"))
                page.keys("2", Keys.ENTER)
            else:
                page.keys("a")
            page.until(lambda number=number: page.count() == f"{number} of 12")
            page.until(lambda number=number: page.place() == f"{number + 1} / 12")
        asked = requests_of(driver)
        assert complaints(driver) == []

    made = project.decided()
    assert len({decision.id for decision in made}) == 10
    assert [(made[n].verdict, made[n].reason, made[n].note) for n in (2, 5)] == [
        ("reject", "unclear", "题意不明"),
        ("reject", "ambiguous", ""),
    ]
    assert {decision.verdict for n, decision in enumerate(made) if n not in (2, 5)} == {"accept"}
    assert {urlsplit(url).hostname for url in asked if not url.startswith("data:")} == {"127.0.0.1"}


def test_an_edit_is_checked_as_it_is_typed_and_saved_when_it_passes(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served() as address:
        page = Page(driver, address)
        page.keys("e")
        page.until(lambda: page.text("#edit-checks") == "Nothing is changed yet.")
        assert not page.can_save()
        page.chord("a")
        page.keys("何年？")
        page.until(lambda: "question_too_short" in page.text("#edit-checks"))
        assert "3 characters, at least 6" in page.text("#edit-checks")
        assert not page.can_save()
        page.chord(Keys.ENTER)
        assert page.is_open("editing")
        page.keys("该决议是在哪一年通过的呢？")
        page.until(page.can_save)
        assert "passes all 19 checks" in page.text("#edit-checks")
        screenshot(driver, "review-edit")
        page.chord(Keys.ENTER)
        page.until(lambda: page.count() == "1 of 12" and not page.is_open("editing"))
        page.until(lambda: page.place() == "2 / 12")
        page.keys("p")
        page.until(lambda: page.place() == "1 / 12")
        assert "Edited" in page.text(".decision")

    [made] = project.decided()
    assert made.verdict == "edit"
    assert made.item is not None
    assert made.item.question == "何年？该决议是在哪一年通过的呢？"


def test_an_unsaved_edit_outlives_a_reload_until_it_is_dropped(driver, tmp_path: Path):
    project = Project(tmp_path)
    question = "return document.getElementById('edit-question').value"
    with project.served() as address:
        page = Page(driver, address)
        page.keys("e")
        page.until(lambda: page.is_open("editing"))
        page.keys("请问")
        page.until(page.can_save)
        driver.refresh()
        page.until(lambda: page.text("#row h1"))
        assert "unsaved edit" in page.text("#rows [aria-current]")
        page.keys("e")
        page.until(lambda: page.is_open("editing"))
        assert str(page.run(question)).startswith("请问")
        driver.find_element(By.ID, "drop-edit").click()
        page.until(lambda: "unsaved edit" not in page.text("#rows"))
        page.keys("e")
        page.until(lambda: page.is_open("editing"))
        assert not str(page.run(question)).startswith("请问")
        page.keys(Keys.ESCAPE)
        page.until(lambda: not page.is_open("editing"))

    assert project.decided() == []


def test_keys_do_nothing_while_one_types_or_composes(driver, tmp_path: Path):
    project = Project(tmp_path)
    composing = """
      for (const init of [{key: "a", isComposing: true}, {key: "Process", keyCode: 229}, {key: "a", ctrlKey: true},
                          {key: "a", repeat: true}, {key: "a", metaKey: true}])
        document.body.dispatchEvent(new KeyboardEvent("keydown", {...init, bubbles: true}));"""
    with project.served() as address:
        page = Page(driver, address)
        driver.find_element(By.ID, "by-text").click()
        page.keys("area")
        assert page.run("return document.getElementById('by-text').value") == "area"
        page.until(lambda: page.text("#found").startswith("0 of 12"))
        page.run("document.getElementById('clear').click()")
        page.keys(Keys.ESCAPE)
        page.run(composing)
        page.keys("n")
        page.until(lambda: page.place() == "2 / 12")
        assert page.count() == "0 of 12"

    assert project.decided() == []


def test_one_moves_among_the_rows_that_pass_the_filters(driver, tmp_path: Path):
    with Project(tmp_path).served() as address:
        page = Page(driver, address)
        page.keys("a")
        page.until(lambda: page.place() == "2 / 12")
        page.run(
            "const s = document.getElementById('by-state'); s.value = 'open';"
            "s.dispatchEvent(new Event('input', {bubbles: true}));"
        )
        assert page.text("#found") == "11 of 12 rows"
        for key, place in (("n", "2 / 11"), ("k", "1 / 11"), (Keys.ARROW_RIGHT, "2 / 11"), (Keys.ARROW_LEFT, "1 / 11")):
            page.keys(key)
            page.until(lambda place=place: page.place() == place)
        page.keys("u")
        page.until(lambda: page.place() == "2 / 11")
        page.keys("?")
        page.until(lambda: page.is_open("help"))
        page.keys(Keys.ESCAPE)
        page.until(lambda: not page.is_open("help"))
        assert page.run("return document.activeElement.id") in ("row", "")


def test_a_restart_goes_on_at_the_first_undecided_row(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served() as address:
        page = Page(driver, address)
        for number in (1, 2, 3):
            page.keys("a")
            page.until(lambda number=number: page.place() == f"{number + 1} / 12")
    port = urlsplit(address).port or 0

    page.keys("a")
    page.until(lambda: "The server does not answer" in page.text("#trouble"))
    assert "Kept in this page, not saved yet: accept" in page.text("#trouble")
    with project.served(port=port) as address:
        driver.find_element(By.ID, "send-again").click()
        page.until(lambda: "was started anew" in page.text("#trouble"))
        driver.get(address)
        page.until(lambda: page.count() == "3 of 12")
        assert page.place() == "4 / 12"
        driver.find_element(By.ID, "send-again").click()
        page.until(lambda: page.count() == "4 of 12")
        page.until(lambda: page.text("#trouble") == "")

    assert len(project.decided()) == 4


def test_a_row_that_changes_under_the_page_is_shown_anew_and_its_decision_is_stale(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served() as address:
        page = Page(driver, address)
        page.keys("a")
        page.until(lambda: page.place() == "2 / 12")
        [made] = project.decided()
        now = str(page.run("return document.querySelector('#rows [aria-current]').dataset.id"))
        changed = [
            msgspec.structs.replace(record, reflection="换了一种反思。") if record.id in (made.id, now) else record
            for record in project.records
        ]
        project.hold(changed)
        page.keys("a")
        page.until(lambda: "has changed" in page.text("#main"))
        page.until(lambda: "换了一种反思。" in page.text("#row"))
        assert len(project.decided()) == 1
        page.until(lambda: "1 stale" in page.text("#counts"))
        page.keys("p")
        page.until(lambda: page.place() == "1 / 12")
        assert "Stale: the row has changed since" in page.text(".decision")
        screenshot(driver, "review-stale")
        page.keys("a")
        page.until(lambda: page.count() == "1 of 12")

    assert [decision.id for decision in project.decided()] == [made.id, made.id]


def test_a_page_that_lies_open_notices_that_the_data_was_written_anew(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served() as address:
        page = Page(driver, address)
        project.hold([msgspec.structs.replace(record, reflection="换了一种反思。") for record in project.records])
        page.run("document.dispatchEvent(new Event('visibilitychange'))")
        page.until(lambda: "换了一种反思。" in page.text("#row"))
        assert "shown anew" in page.text("#notice")


def test_two_tabs_and_two_reviewers_lose_nothing_and_stay_blind(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served("ann") as one, project.served("bob") as other:
        page = Page(driver, one)
        first = driver.current_window_handle
        page.keys("r")
        page.until(lambda: page.is_open("rejecting"))
        page.keys("9", Keys.TAB, "只给自己看", Keys.ENTER)
        page.until(lambda: page.place() == "2 / 12")
        driver.switch_to.new_window("tab")
        page = Page(driver, other)
        assert page.count() == "0 of 12"
        assert "只给自己看" not in page.text("body")
        page.keys("a")
        page.until(lambda: page.place() == "2 / 12")
        driver.get(other.split("?")[0] + "summary")
        page.until(lambda: "只给自己看" in page.text("body"))
        assert "Agreement" in page.text("body")
        driver.get(one.split("?")[0])
        page.until(lambda: page.count() == "1 of 12")
        page.keys("a")
        page.until(lambda: page.count() == "2 of 12")
        driver.close()
        driver.switch_to.window(first)
        page.run("document.dispatchEvent(new Event('visibilitychange'))")
        page.until(lambda: page.count() == "2 of 12")

    assert sorted(decision.reviewer for decision in project.decided()) == ["ann", "ann", "bob"]


def test_what_a_model_wrote_is_text_and_nothing_runs(driver, tmp_path: Path):
    script, image, textarea, turned, template = HOSTILE
    record = a_record(
        question=f"{script}{image} 哪一项？",
        options=(script, image, textarea, turned),
        think=textarea,
        steps=(script, image, template),
        reflection=turned,
        adjustment=image,
        teacher=image,
    )
    project = Project(tmp_path, [record])
    project.ask([], [msgspec.structs.replace(judged(1, 1, 1, 1, 1), teacher=script)])
    seen = Decision(
        id=record.id,
        content=decisions.content(record),
        by_chance=True,
        reviewer="ann",
        verdict="reject",
        reason="other",
        note=f"{image}{script}",
        item=None,
        at="2026-01-01T00:00:00Z",
    )
    decisions.append(project.decisions, seen)
    with project.served() as address:
        page = Page(driver, address)
        shown = page.text("body")
        for told in (script, image, textarea, template):
            assert told in shown
        assert "U+202E" in shown
        assert "\u202e" not in shown
        screenshot(driver, "review-hostile")
        page.keys("e")
        page.until(lambda: page.text("#edit-checks"))
        held = page.run("return [...document.querySelectorAll('#editing textarea')].map(area => area.value)")
        assert held[:6] == [record.question, *record.options, record.think]  # type: ignore[index]
        made = (
            "return document.querySelectorAll('body script, img, svg, iframe, object, b, [onerror], [onload]').length"
        )
        assert page.run(made) == 0
        page.keys(Keys.ESCAPE)
        driver.get(address.split("?")[0] + "summary")
        page.until(lambda: page.text("h1"))
        assert driver.title == "Summary of the review"
        assert {urlsplit(url).hostname for url in requests_of(driver) if not url.startswith("data:")} == {"127.0.0.1"}
        assert complaints(driver) == []


def test_a_disk_that_is_full_is_told_and_the_decision_can_be_sent_again(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served() as address:
        page = Page(driver, address)
        project.decisions.write_bytes(b'{"id":"cut off')
        page.keys("a")
        page.until(lambda: "decisions.jsonl:1: " in page.text("#trouble"))
        assert "not saved yet: accept" in page.text("#trouble")
        assert page.count() == "0 of 12"
        project.decisions.write_bytes(b"")
        driver.find_element(By.ID, "send-again").click()
        page.until(lambda: page.count() == "1 of 12")
        assert page.text("#trouble") == ""

    assert len(project.decided()) == 1


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_and_chinese_is_drawn(driver, tmp_path: Path, width, dark):
    long = "中文与English混排" * 12 + "https://example.com/" + "x" * 120
    records = some_records(30)
    records[0] = msgspec.structs.replace(records[0], reflection=long, teacher="t" * 90, steps=(long, long))
    project = Project(tmp_path, records)
    project.ask([], [msgspec.structs.replace(judged(1, 2, 3, 4, 5), id=records[0].id)])
    with project.served() as address:
        page = Page(driver, f"{address}#{records[0].id}")
        look(driver, width, dark)
        page.run("location.hash = arguments[0]; location.reload()", records[0].id)
        page.until(lambda: long in page.text("#row"))
        assert not overflows(driver)
        screenshot(driver, f"review-{width}-{'dark' if dark else 'light'}")
        drawn = """
          const at = document.createElement("canvas").getContext("2d");
          at.font = getComputedStyle(document.querySelector("h1")).font;
          const ink = (text) => { at.canvas.width = 40; at.font = getComputedStyle(document.querySelector("h1")).font;
            at.fillText(text, 5, 30); return at.getImageData(0, 0, 40, 40).data.join(); };
          return new Set(["问", "题", "\\uffff"].map(ink)).size;"""
        assert page.run(drawn) == 3
        fits = "const box = document.getElementById(arguments[0]); return box.scrollWidth <= box.clientWidth"
        for key, dialog in (("r", "rejecting"), ("e", "editing"), ("?", "help")):
            page.keys(key)
            page.until(lambda dialog=dialog: page.is_open(dialog))
            assert not overflows(driver)
            assert page.run(fits, dialog)
            screenshot(driver, f"review-{dialog}-{width}-{'dark' if dark else 'light'}")
            page.keys(Keys.ESCAPE)
            page.until(lambda dialog=dialog: not page.is_open(dialog))
        small = """return [...document.querySelectorAll(".actions button")].map(e => e.getBoundingClientRect()).filter(
          box => box.height < 40 || box.right > innerWidth).length"""
        assert page.run(small) == 0


def test_on_a_phone_the_list_opens_and_a_row_is_accepted_by_touch(driver, tmp_path: Path):
    project = Project(tmp_path)
    with project.served() as address:
        page = Page(driver, address)
        look(driver, 390, False)
        driver.find_element(By.ID, "show-list").click()
        assert not overflows(driver)
        screenshot(driver, "review-list-390")
        driver.find_elements(By.CSS_SELECTOR, "#rows button")[2].click()
        page.until(lambda: page.place() == "3 / 12")
        driver.find_element(By.ID, "accept").click()
        page.until(lambda: page.count() == "1 of 12")

    assert len(project.decided()) == 1


def test_each_control_has_a_name_and_focus_is_seen(driver, tmp_path: Path):
    nameless = """
      return [...document.querySelectorAll("button, input, select, textarea, progress, dialog, a")].filter(
        (element) => !(element.getAttribute("aria-label") || element.getAttribute("aria-labelledby")
          || element.innerText.trim() || element.textContent.trim() || element.labels?.length)).map(e => e.outerHTML)"""
    with Project(tmp_path).served() as address:
        page = Page(driver, address)
        page.keys("e")
        page.until(lambda: page.is_open("editing"))
        assert page.run(nameless) == []
        page.keys(Keys.ESCAPE)
        page.until(lambda: not page.is_open("editing"))

        def on_a_control() -> bool:
            page.keys(Keys.TAB)  # the first one may find the focus still on its way back from the dialog
            return page.run("return document.activeElement.tagName") not in ("ARTICLE", "BODY")

        page.until(on_a_control)
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        assert page.run(outline) != "none"
