import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.plot import ALL, HIGH, POINTS, Bars, Lines, bars, lines

NUMBERS = st.floats() | st.integers(-(10**6), 10**6)


def shapes(view, name: str) -> list:
    return [shape for shape in view["svg"] if shape.name == name]


def ticks(view) -> list[str]:
    return [shape.words for shape in shapes(view, "text") if shape.attributes["class"] == "end"]


def a_line(*points: tuple[float, float], name: str = "loss") -> Lines:
    return Lines("Loss", "step", "loss", {name: points})


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ((0, 11000), ["0", "2,000", "4,000", "6,000", "8,000", "10,000", "12,000"]),
        ((0.25, 0.73), ["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]),
        ((-1, 10), ["-2", "0", "2", "4", "6", "8", "10"]),
        ((0, 2e-5), ["0", "5e-06", "1e-05", "1.5e-05", "2e-05"]),
        ((0, 3e6), ["0.0M", "0.5M", "1.0M", "1.5M", "2.0M", "2.5M", "3.0M"]),
        ((1e9, 1e9 + 4e6), ["1e+09", "1.001e+09", "1.002e+09", "1.003e+09", "1.004e+09"]),
        ((5, 5), ["4.7", "4.8", "4.9", "5.0", "5.1", "5.2", "5.3"]),
        ((0, 0), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_ticks_are_round_and_differ(values, written):
    assert ticks(lines(a_line(*enumerate(values)))) == written


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30))
def test_whatever_the_numbers_lines_stay_in_the_plot(points):
    view = lines(a_line(*points))

    placed = [pair.split(",") for _, curve in view.get("curves", ()) for pair in curve.split()]
    assert all(-0.01 <= float(x) <= 1000.01 and -0.01 <= float(y) <= HIGH + 0.01 for x, y in placed)
    assert len(set(ticks(view) if view["svg"] else ())) == len(ticks(view) if view["svg"] else ())


@given(st.lists(st.none() | NUMBERS, min_size=1, max_size=12))
def test_whatever_the_numbers_bars_stay_in_the_plot(values):
    view = bars(Bars("Bars", tuple(f"{n}" for n in range(len(values))), {"a": tuple(values)}))

    for shape in shapes(view, "rect") if view["svg"] else ():
        at = {name: float(shape.attributes[name].rstrip("%")) for name in ("x", "y", "width", "height")}
        assert at["x"] >= 0 and at["x"] + at["width"] <= 100
        assert at["y"] >= -1.1 and at["y"] + at["height"] <= HIGH + 1.1
    for _, found in view["rows"]:
        assert all(0 <= float(bar["x"][:-1]) + float(bar["width"][:-1]) <= 100.02 for bar in found if bar["colour"])


def test_a_line_has_a_gap_where_a_value_is_not_finite():
    view = lines(a_line((0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0), (4, math.inf), (5, 3.0), (6, 2.0)))

    assert [len(curve.split()) for _, curve in view["curves"]] == [2, 1, 2]


def test_a_point_between_two_gaps_is_drawn_as_a_dot():
    alone = [(n, 1.0 if n % 2 else math.nan) for n in range(200)]
    view = lines(a_line(*alone, (200, 1.0), (201, 1.0)))

    assert [dot.attributes["class"].split()[-1] for dot in view["dots"]] == ["on"] * 99 + ["k0"] * 3


def test_each_point_says_what_it_is():
    view = lines(a_line((10, 0.6931471), (2000, 0.5), name="sft"))

    assert [dot.title for dot in view["dots"]] == ["sft: step 10, loss 0.6931", "sft: step 2,000, loss 0.5"]


def test_a_long_series_is_thinned_but_keeps_its_peaks_and_ends():
    points = [(n, 1.0) for n in range(20_000)]
    points[0], points[7777], points[12_345], points[-1] = (0, 0.9), (7777, 9.0), (12_345, -9.0), (19_999, 1.1)

    titles = [dot.title for dot in lines(a_line(*points))["dots"]]

    assert len(titles) <= POINTS
    assert {
        "loss: step 0, loss 0.9",
        "loss: step 7,777, loss 9",
        "loss: step 12,345, loss -9",
        "loss: step 19,999, loss 1.1",
    } <= set(titles)


def test_many_series_share_what_a_plot_may_hold():
    curve = tuple((n, n % 7) for n in range(1000))
    view = lines(Lines("Rewards", "step", "reward", {f"part {n}": curve for n in range(16)}))

    assert len(view["dots"]) <= ALL


@pytest.mark.parametrize("points", [(), ((0, math.nan),), ((math.inf, 1.0), (math.nan, 2.0))])
def test_lines_without_a_point_are_not_drawn(points):
    view = lines(a_line(*points))

    assert view["svg"] is None
    assert view["empty"] == ["loss"]


@pytest.mark.parametrize(
    ("labels", "upright"),
    [
        (("A", "B", "C", "D"), True),
        (("train", "validation", "test"), True),
        (("经济发展", "教育体系", "环境保护"), True),
        (tuple("ABCDEFGHI"), False),
        (("economy", "education", "environment", "health"), False),
        (("a label that is as long as this one is",), True),
        (("a label that is as long as this one is", "and another"), False),
    ],
)
def test_bars_lie_when_labels_are_many_or_long(labels, upright):
    view = bars(Bars("Bars", labels, {"a": (1.0,) * len(labels)}))

    assert (view["svg"] is not None, bool(view["rows"])) == (upright, not upright)


def test_bars_have_their_values_when_they_are_few():
    few = bars(Bars("Letters", ("A", "B"), {"records": (3301, 3512)}))
    many = bars(Bars("Letters", tuple("ABCD"), {f"{n}": (3301, 3512, 1, 2) for n in range(5)}))

    assert [s.words for s in shapes(few, "text") if "value" in s.attributes["class"]] == ["3,301", "3,512"]
    assert not [s for s in shapes(many, "text") if "value" in s.attributes["class"]]


def test_values_of_one_plot_have_the_same_decimals():
    view = bars(Bars("Change", tuple("ABCDEFGHI"), {"points": (3.1, -2, 0, None, 4.25, 1, 1, 1, math.nan)}, "%"))

    assert [found[0]["value"] for _, found in view["rows"]] == [
        "3.10%", "-2.00%", "0.00%", "–", "4.25%", "1.00%", "1.00%", "1.00%", "–",
    ]  # fmt: skip


def test_bars_below_zero_go_the_other_way():
    _, (bar,) = bars(Bars("Change", ("a",) * 9, {"points": (-5, 15, *[0] * 7)}))["rows"][0]

    assert (bar["x"], bar["width"], bar["zero"]) == ("0%", "25%", "25%")


@pytest.mark.parametrize("values", [(), (None, None), (math.nan, None)])
def test_bars_without_a_value_are_not_drawn(values):
    view = bars(Bars("Bars", ("a", "b"), {"x": values}))

    assert (view["svg"], view["rows"], view["empty"]) == (None, [], ["x"])


def test_a_series_without_values_is_named():
    assert bars(Bars("Bars", ("a",), {"x": (1,), "y": (None,)}))["empty"] == ["y"]
    assert lines(Lines("Lines", "x", "y", {"a": ((0, 1),), "b": ()}))["empty"] == ["b"]
