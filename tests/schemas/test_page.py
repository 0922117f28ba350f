import base64
import hashlib
import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from schemas.page import STYLE, Bars, Details, Diff, Facts, Lines, Part, Section, Table, Words, page
from tests.browser import browser, complaints, look, overflows, requests_of, screenshot, undrawn

ROOT = Path(__file__).parents[2]
TOPICS = ("经济发展", "教育体系", "环境保护", "医疗卫生", "科技创新", "传统文化", "近代历史", "法律制度", "自然地理")
HOSTILE = (
    "</script><script>document.title = 'x'</script>",
    "<img src=x onerror=\"document.title = 'x'\">",
    "</style></title><b>bold</b>",
    "{{ 7 * 7 }} {% raw %} {# #}",
    "&lt;b&gt; &amp; \" '",
    "\u202eright to left\u202c \u200f",
)
WINDOWS = [(width, dark) for width in (1280, 390) for dark in (False, True)]


def a_page(*parts: Part) -> str:
    return page("Audit", "Two versions", [Section("Records", parts)])


def parsed(*parts: Part) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(a_page(*parts))


def a_table(**changes: Any) -> Table:
    fields: dict[str, Any] = {
        "caption": "Records by topic",
        "columns": ("topic", "records", "share"),
        "rows": tuple((topic, (n * 37) % 11 * 1000, n / 7) for n, topic in enumerate(TOPICS)),
    }
    return Table(**(fields | changes))


def long_table(rows: int) -> Table:
    found = tuple(
        (f"{n * 7919 % 100003:016x}", TOPICS[n % 9], "《巴黎协定》是在哪一年通过的？" * 4) for n in range(rows)
    )
    return Table("Questions", ("id", "topic", "question"), found)


def every_part() -> list[Section]:
    curve = tuple((n * 10, math.exp(-n / 90) if not 60 < n < 70 else math.nan) for n in range(300))
    think = "先回忆《巴黎协定》的背景：2015年12月，近200个缔约方一致通过该协定。" * 6
    return [
        Section(
            "Overview",
            (
                Facts((("Records", "13,482", "+212 since v1.2"), ("Accept rate", "94.2 %", "91.0–96.4 %"))),
                Words(("多出212条记录。 The fact sheet of environment changed.", "Most of it is new.")),
            ),
        ),
        Section(
            "Tables",
            (
                a_table(heat=(1,), formats=("", "{:,}", "{:.1%}"), note="Shaded by size."),
                Table(
                    "Wide",
                    tuple(f"column {n}" for n in range(30)),
                    ((*range(30),), (*"abcdefghijklmnopqrstuvwxyzabcd",)),
                ),
                Table("Unbroken", ("id", "text"), (("f" * 64, "a" * 900),)),
                long_table(400),
                Table("Empty", ("id",), ()),
            ),
        ),
        Section(
            "Plots",
            (
                Bars(
                    "Letters", ("A", "B", "C", "D"), {"v1.2": (3301, 3512, 3398, 3271), "now": (3350, 3420, 3371, 3341)}
                ),
                Bars("Topics", TOPICS, {"v1.2": tuple(range(9)), "now": tuple(range(9, 0, -1))}),
                Bars("Change", TOPICS, {"points": (1.5, -2.25, None, 3, 4, -1, 0, 2, 1)}, "%"),
                Bars("Nothing", ("a",), {"none": (None,)}),
                Lines("Loss", "step", "loss", {"plain": curve, "reasoning": tuple((x, y + 0.3) for x, y in curve)}),
                Lines("Nothing yet", "step", "reward", {"grpo": ()}),
            ),
        ),
        Section(
            "Examples",
            (
                Diff(
                    "3f2a9c0d11e84b7a",
                    "environment × basic × factual",
                    (
                        ("question", "《巴黎协定》是在哪一年通过的？", "《巴黎协定》于哪一年通过？"),
                        ("think", think, think.replace("一致通过该协定。先", "一致通过。先", 1)),
                        ("adjustment", None, "补充了会议名称。"),
                        ("notes", think * 3, think * 3),
                    ),
                ),
                Details("One more", (Words(("Folded.",)), a_table(caption="Inside"), Words(HOSTILE))),
            ),
        ),
    ]


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


# The document


def test_the_same_parts_give_the_same_bytes():
    assert page("Audit", "", every_part()) == page("Audit", "", every_part())


def test_the_bytes_do_not_depend_on_the_process():
    code = "import sys; from tests.schemas.test_page import *; sys.stdout.write(page('A', '', every_part()))"

    ran = [
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        )
        for seed in ("1", "2")
    ]

    assert ran[0].stdout == ran[1].stdout == page("A", "", every_part()).encode()


def test_a_page_without_sections_is_small():
    assert len(page("Audit", "", []).encode()) < 100_000


def test_the_contents_lead_to_each_section():
    document = lxml.html.document_fromstring(page("Audit", "", every_part()))

    links = document.xpath("//nav//a")
    assert [link.text for link in links] == ["Overview", "Tables", "Plots", "Examples"]
    assert [document.get_element_by_id(link.get("href")[1:]).text for link in links] == [link.text for link in links]


def test_nothing_comes_from_elsewhere():
    text = page("Audit", "see https://example.org", every_part())
    document = lxml.html.document_fromstring(text)

    refers = [
        value
        for name in ("src", "href", "srcset", "action", "data", "poster")
        for value in document.xpath(f"//@{name}")
    ]
    assert all(value.startswith("#") for value in refers)
    assert not re.search(r"@import|url\(", STYLE)


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else():
    document = lxml.html.document_fromstring(page("Audit", "", every_part()))
    (policy,) = document.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")

    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for name, kind in (("style", "style-src"), ("script", "script-src")):
        (element,) = document.xpath(f"//{name}")
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert allowed[kind] == f"'sha256-{digest}'"
    assert {kind: allow for kind, allow in allowed.items() if not kind.startswith("s")} == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not document.xpath("//@style")
    assert not [name for element in document.iter() for name in element.attrib if name.startswith("on")]


def test_the_style_is_the_one_of_pages():
    assert STYLE in a_page()


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text_wherever_it_stands(text):
    parts = (
        Table(text, (text, "n"), ((text, 1),), note=text),
        Bars(text, (text,), {text: (1.0,), "b": (2.0,)}, text, text),
        Bars(text, (text,) * 9, {text: (1.0,) * 9, "b": (2.0,) * 9}, text, text),
        Lines(text, text, text, {text: ((0, 1), (1, 2)), "b": ()}, text),
        Facts(((text, text, text),)),
        Words((text,)),
        Diff(text, text, ((text, text, text + text), (text, "a", "b"))),
        Details(text, (Words((text,)),)),
    )
    harmless = lxml.html.document_fromstring(page("x", "x", [Section("x", parts)]).replace(text, "x"))
    document = lxml.html.document_fromstring(page(text, text, [Section(text, parts)]))

    assert [element.tag for element in document.iter()] == [element.tag for element in harmless.iter()]
    assert document.xpath("//h1")[0].text == text
    assert document.xpath("//td")[0].text == text


@pytest.mark.parametrize("letter", ["\0", "\x08", "\x1b", "\x7f", "\x85", "\ud800", "\udfff", "\ufffe"])
def test_what_cannot_stand_in_a_document_is_replaced(letter):
    text = a_page(Words((f"a{letter}b",)))

    assert "a\ufffdb" in text
    assert letter not in text
    assert text.encode("utf-8")


def test_a_line_end_and_a_tab_are_kept():
    assert parsed(Words(("a\n\tb",))).xpath("//main//p")[0].text == "a\n\tb"


# Tables


@pytest.mark.parametrize(
    ("value", "form", "text", "key"),
    [
        (None, "{:,}", "–", None),
        ("文字", "{:,}", "文字", None),
        (12345, "", "12345", None),
        (12345, "{:,}", "12,345", "12345"),
        (0.123456, "", "0.1235", "0.123456"),
        (0.5, "", "0.5", None),
        (0.5, "{:.1%}", "50.0%", "0.5"),
        (-3, "{:+,}", "-3", None),
        (math.inf, "", "inf", "Infinity"),
        (math.nan, "", "nan", None),
        (True, "", "True", "1"),
    ],
)
def test_cells_are_written_by_their_format_and_sorted_by_their_number(value, form, text, key):
    (cell,) = parsed(Table("t", ("a",), ((value,),), (form,))).xpath("//td")

    assert (cell.text, cell.get("data-v")) == (text, key)


def test_a_column_is_of_numbers_when_all_of_its_cells_are():
    rows = ((1, "1", 1, None), (2.5, "2", "–", None), (None, "3", 3, None))

    headings = parsed(Table("t", ("numbers", "texts", "mixed", "none"), rows)).xpath("//th")

    assert [heading.get("class") for heading in headings] == ["n", None, None, None]


def test_cells_are_shaded_by_their_size():
    rows = ((100,), (50,), (1,), (0,), (-100,), (None,), (math.nan,))

    cells = parsed(Table("t", ("change",), rows, heat=(0,))).xpath("//td")

    assert [cell.get("class") for cell in cells] == ["n h6", "n h3", "n h1", "n h0", "n l6", "n", "n"]


def test_a_table_without_rows_says_so():
    document = parsed(Table("Newly rejected", ("id",), ()))

    assert not document.xpath("//table")
    assert document.xpath("//figure/p")[0].text == "No rows."


# Plots


@pytest.mark.parametrize(
    "part",
    [Bars("Letters", ("A", "B"), {"records": (1, 2)}), Lines("Loss", "step", "loss", {"sft": ((0, 2.0), (9, 1.0))})],
)
def test_a_plot_says_in_words_what_it_shows(part):
    (svg,) = parsed(part).xpath("//svg[@role='img']")

    assert svg[0].tag == "title" and svg[0].text == part.title
    assert svg[1].tag == "desc" and len(svg[1].text) > 15


def test_lying_bars_have_words_for_each():
    titles = parsed(Bars("Topics", TOPICS, {"a": tuple(range(9)), "b": (None,) * 9})).xpath("//svg[@role='img']/title")

    assert [title.text for title in titles][:4] == [
        "经济发展, a: 0",
        "经济发展, b: –",
        "教育体系, a: 1",
        "教育体系, b: –",
    ]


@pytest.mark.parametrize("part", [Bars("Bars", ("a",), {"x": (None,)}), Lines("Lines", "x", "y", {"x": ()})])
def test_a_plot_without_values_is_words(part):
    document = parsed(part)

    assert not document.xpath("//svg")
    assert document.xpath("//figure/p")[0].text == "Nothing to draw: no values."


def test_a_series_without_values_is_named():
    assert "No values: grpo." in a_page(Lines("Lines", "x", "y", {"sft": ((0, 1), (1, 2)), "grpo": ()}))


def test_plots_that_follow_one_another_stand_in_pairs():
    plot, empty = Bars("Bars", ("a",), {"x": (1,)}), Bars("Bars", ("a",), {"x": (None,)})

    found = parsed(plot, plot, plot, Words(("-",)), plot, empty, plot, plot).xpath("//figure")

    assert [" half" in figure.get("class") for figure in found] == [1, 1, 0, 0, 0, 1, 1]


# Differences


def test_a_changed_field_has_its_changes_marked():
    before, after = "协定于2015年在巴黎通过", "协定于2016年在巴黎通过"

    (field,) = parsed(Diff("id", "", (("question", before, after),))).xpath("//dd")

    assert lxml.html.tostring(field, encoding="unicode").strip() == (
        '<dd class="changed">协定于<del>2015</del><ins>2016</ins>年在巴黎通过</dd>'
    )


def test_equal_fields_are_shown_once():
    (field,) = parsed(Diff("id", "", (("answer", "B", "B"),))).xpath("//dd")

    assert (field.get("class"), field.text, len(field)) == ("same", "B", 0)


@pytest.mark.parametrize(
    ("before", "after", "inside"),
    [(None, "通过", "<ins>通过</ins>"), ("通过", None, "<del>通过</del>"), (None, None, "–"), ("", "", "")],
)
def test_a_field_may_be_missing(before, after, inside):
    assert f">{inside}</dd>" in a_page(Diff("id", "", (("adjustment", before, after),)))


def test_long_stretches_that_did_not_change_are_folded():
    same = "先回忆背景。" * 100

    (field,) = parsed(Diff("id", "", (("think", f"甲{same}丙", f"乙{same}丁"),))).xpath("//dd")

    assert field.xpath("span[@class='cut']/@title") == ["520 characters as before"]
    assert len(field.text_content()) == 4 + 80 + 1


def test_a_long_field_that_did_not_change_is_folded_whole():
    same = "先回忆背景。" * 200

    (fold,) = parsed(Diff("id", "", (("think", same, same),))).xpath("//dd/details")

    assert "1200 characters, unchanged" in fold.text_content()
    assert same in fold.text_content()


# Colours


def colours(dark: bool) -> dict[str, str]:
    found = re.findall(
        r"--([a-z0-9-]+): (#[0-9a-f]{6});",
        STYLE.partition("@media screen and (prefers-color-scheme: dark)")[2 if dark else 0].partition("* {")[0],
    )
    return dict(found)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_told_from_what_they_stand_on(dark):
    has = colours(dark)
    pairs = [(text, ground) for text in ("text", "muted", "link") for ground in ("page", "card", "sunk")]
    pairs += [
        ("gone", "gone-back"),
        ("come", "come-back"),
        *(("text", f"{tint}{n}") for tint in "hl" for n in range(1, 7)),
    ]

    assert {
        pair: contrast(has[pair[0]], has[pair[1]]) for pair in pairs if contrast(has[pair[0]], has[pair[1]]) < 4.5
    } == {}


@pytest.mark.parametrize("dark", [False, True])
def test_series_can_be_told_from_what_they_are_drawn_on(dark):
    has = colours(dark)

    assert {n: contrast(has[f"k{n}"], has["card"]) for n in range(8) if contrast(has[f"k{n}"], has["card"]) < 3} == {}


# In a browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    """One browser for all: starting it takes longer than any of these tests."""
    with browser(1280) as driver:
        yield driver


def texts(driver: Chrome, column: int = 0) -> list[str]:
    """What a column of the first table shows, as it is on the screen."""
    shown = "[...document.querySelector('table').tBodies[0].rows].filter(row => row.offsetHeight)"
    return driver.execute_script(f"return {shown}.map(row => row.cells[arguments[0]].textContent)", column)


def says(driver: Chrome, text: str) -> None:
    WebDriverWait(driver, 10, poll_frequency=0.02).until(
        lambda found: found.find_element(By.CSS_SELECTOR, ".filter output").text == text
    )


def says_no(driver: Chrome) -> None:
    WebDriverWait(driver, 10, poll_frequency=0.02).until(
        lambda found: any("Content Security Policy" in line for line in complaints(found))
    )


@pytest.mark.parametrize(("width", "dark"), WINDOWS)
def test_a_page_fits_its_window_and_asks_nobody_for_anything(chrome, tmp_path, width, dark):
    address = written(tmp_path, page("Audit of v1.2", "版本审计", every_part()))
    requests_of(chrome), complaints(chrome)

    look(chrome, width, dark)
    chrome.get(address)
    chrome.execute_script("document.querySelectorAll('details').forEach(part => { part.open = true; })")

    screenshot(chrome, f"page-{width}-{'dark' if dark else 'light'}")
    assert not overflows(chrome)
    assert requests_of(chrome) == [address]
    assert complaints(chrome) == []
    shade = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", shade))) < 200) == dark


def test_a_page_fits_paper(chrome, tmp_path):
    chrome.get(written(tmp_path, page("Audit", "", every_part()[:2] + every_part()[3:])))

    chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
    look(chrome, 794, False)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    too_wide = overflows(chrome)
    open_now = chrome.execute_script("return [...document.querySelectorAll('details')].every(part => part.open)")
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    assert not too_wide
    assert open_now


@pytest.mark.parametrize("width", [1280, 390])
def test_words_in_plots_stay_as_large_as_the_window_is_small(chrome, tmp_path, width):
    look(chrome, width, False)
    chrome.get(written(tmp_path, page("Audit", "", every_part())))

    sizes = chrome.execute_script(
        "return [...document.querySelectorAll('svg.plot text')].map(t => t.getBoundingClientRect().height)"
    )
    inside = chrome.execute_script(
        """
        return [...document.querySelectorAll("svg.plot")].every(plot => {
          const box = plot.closest("figure").getBoundingClientRect();
          const drawn = [...plot.querySelectorAll("text, rect, circle, polyline")];
          return drawn.filter(shape => shape.getClientRects().length).every(shape => {
            const at = shape.getBoundingClientRect();
            return at.left >= box.left && at.right <= box.right && at.top >= box.top && at.bottom <= box.bottom;
          });
        });
        """
    )

    assert min(size for size in sizes if size) > 11
    assert inside


def test_chinese_is_drawn(chrome, tmp_path):
    chrome.get(written(tmp_path, page("Audit", "", every_part())))

    assert undrawn(chrome, "".join(TOPICS) + "《巴黎协定》是在哪一年通过的？补充了会议名称。") == ""
    assert undrawn(chrome, "\U0010fffc") == "\U0010fffc"


def test_a_heading_sorts_by_its_column(chrome, tmp_path):
    rows = (("b", 10, "x2"), ("a", 9.5, "x10"), ("丁", None, None), ("c", -1, "x1"), ("甲", 1e6, "x3"))
    chrome.get(written(tmp_path, a_page(Table("t", ("name", "size", "text"), rows, ("", "{:,}", "")))))
    headings = chrome.find_elements(By.TAG_NAME, "th")

    seen = []
    for n in (1, 1, 2, 2, 0):
        headings[n].click()
        seen.append((headings[n].get_attribute("aria-sort"), texts(chrome, n)))

    assert seen == [
        ("ascending", ["-1", "9.5", "10", "1,000,000.0", "–"]),
        ("descending", ["1,000,000.0", "10", "9.5", "-1", "–"]),
        ("ascending", ["x1", "x2", "x3", "x10", "–"]),
        ("descending", ["x10", "x3", "x2", "x1", "–"]),
        ("ascending", ["丁", "甲", "a", "b", "c"]),
    ]
    assert [heading.get_attribute("aria-sort") for heading in headings] == ["ascending", "none", "none"]


@pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
def test_a_heading_sorts_by_the_keyboard(chrome, tmp_path, key):
    chrome.get(written(tmp_path, a_page(a_table(rows=(("b", 2, 0.1), ("a", 1, 0.2))))))

    chrome.find_element(By.CSS_SELECTOR, "th button").send_keys(key)

    assert texts(chrome) == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "shown", "output"),
    [
        ("环境", ["环境保护"], "1 of 9 rows"),
        ("ECON", [], "0 of 9 rows"),
        ("a b", ["环境保护", "科技创新"], "2 of 9 rows"),
        ("b　A", ["环境保护", "科技创新"], "2 of 9 rows"),
        ("", list(TOPICS), "9 rows"),
    ],
)
def test_a_table_is_filtered_by_words(chrome, tmp_path, words, shown, output):
    marks = ("x", "a", "a b", "b", "AxB", "x", "", "-", "c")
    chrome.get(written(tmp_path, a_page(Table("t", ("topic", "marks"), tuple(zip(TOPICS, marks, strict=True))))))

    chrome.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys(words)
    says(chrome, output)

    assert texts(chrome) == shown


def test_a_filtered_table_is_sorted_and_a_sorted_one_filtered(chrome, tmp_path):
    rows = tuple((f"{'odd' if n % 2 else 'even'} {n}", n) for n in range(10))
    chrome.get(written(tmp_path, a_page(Table("t", ("name", "n"), rows))))
    box, heading = chrome.find_element(By.CSS_SELECTOR, "input"), chrome.find_elements(By.TAG_NAME, "th")[1]

    box.send_keys("odd")
    says(chrome, "5 of 10 rows")
    heading.click()
    heading.click()
    sorted_then = texts(chrome, 1)
    box.clear()
    box.send_keys("even")
    chrome.execute_script("arguments[0].value = 'even'; arguments[0].dispatchEvent(new Event('input'))", box)
    says(chrome, "5 of 10 rows")
    WebDriverWait(chrome, 10, poll_frequency=0.02).until(lambda _: texts(chrome, 1)[0] == "8")

    assert sorted_then == ["9", "7", "5", "3", "1"]
    assert texts(chrome, 1) == ["8", "6", "4", "2", "0"]


def test_a_short_table_has_no_filter(chrome, tmp_path):
    chrome.get(written(tmp_path, a_page(a_table(rows=(("a", 1, 1.0),) * 8))))

    assert not chrome.find_elements(By.TAG_NAME, "input")


def test_five_thousand_rows_are_written_sorted_and_filtered_at_once(chrome, tmp_path):
    start = time.process_time()
    text = a_page(long_table(5000))
    took = time.process_time() - start
    chrome.get(written(tmp_path, text))

    timed = "const t = performance.now(); {}; document.body.offsetHeight; return performance.now() - t"
    sorting = chrome.execute_script(timed.format("document.querySelector('th').click()"))
    smallest = min(row[0] for row in long_table(5000).rows)
    first = texts(chrome)
    chrome.find_element(By.CSS_SELECTOR, "input").send_keys(smallest)
    says(chrome, "1 of 5,000 rows")

    assert took < 3
    assert sorting < 2500
    assert first[0] == smallest
    assert len(first) == 300
    assert texts(chrome) == [smallest]


def test_the_rest_of_a_long_table_is_shown_when_asked_for(chrome, tmp_path):
    chrome.get(written(tmp_path, a_page(long_table(500))))
    before = len(texts(chrome)), chrome.find_element(By.CSS_SELECTOR, "output").text

    chrome.find_element(By.CSS_SELECTOR, ".filter button").click()

    assert before == (300, "500 rows, the first 300 shown")
    assert len(texts(chrome)) == 500
    assert not chrome.find_element(By.CSS_SELECTOR, ".filter button").is_displayed()


def test_a_page_is_read_in_full_without_its_script(chrome, tmp_path):
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chrome.get(written(tmp_path, a_page(long_table(500))))
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert len(texts(chrome)) == 500
    assert not chrome.find_elements(By.TAG_NAME, "input")


def test_hostile_text_is_shown_and_does_nothing(chrome, tmp_path):
    complaints(chrome)
    chrome.get(
        written(
            tmp_path, page("Audit", "", [Section(text, (Words((text,)), a_table(caption=text))) for text in HOSTILE])
        )
    )

    shown = chrome.execute_script("return [...document.querySelectorAll('.words p')].map(p => p.textContent)")
    assert shown == list(HOSTILE)
    assert chrome.title == "Audit"
    assert chrome.execute_script("return document.images.length + document.scripts.length") == 1
    assert complaints(chrome) == []


@pytest.mark.parametrize(
    "script",
    [
        "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:PORT/x.png'}))",
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))",
        "document.body.setAttribute('onclick', 'document.title = 1'); document.body.click()",
        "fetch('http://127.0.0.1:PORT/').catch(() => 0)",
    ],
)
def test_the_policy_holds_in_a_browser(chrome, tmp_path, script):
    chrome.get(written(tmp_path, a_page()))
    complaints(chrome)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        chrome.execute_script(script.replace("PORT", str(server.getsockname()[1])))
        says_no(chrome)

        with pytest.raises(BlockingIOError):
            server.accept()
    assert chrome.title == "Audit"


def test_a_heading_is_seen_below_the_contents_that_stay(chrome, tmp_path):
    look(chrome, 1280, False)
    chrome.get(written(tmp_path, page("Audit", "", every_part())))

    chrome.find_elements(By.CSS_SELECTOR, "nav a")[2].click()

    nav, heading = (chrome.find_element(By.CSS_SELECTOR, name) for name in ("nav", "#section-3"))
    top, below = (chrome.execute_script("return arguments[0].getBoundingClientRect().y", e) for e in (nav, heading))
    assert top == 0
    assert nav.size["height"] <= below < 200
