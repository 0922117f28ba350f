"""Plots as shapes for the template of a page to print: bars in groups, and lines over a common axis.

Across, all is placed in percent, and down in pixels: a plot takes the width it gets, and its words stay as large.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, TypeGuard

from msgspec import Struct


class Bars(Struct, frozen=True):
    """Bars in groups: upright when the labels are few and short, lying when they are not."""

    title: str
    labels: tuple[str, ...]
    series: dict[str, tuple[float | None, ...]]
    """For each series its value under each label."""
    unit: str = ""
    note: str = ""


class Lines(Struct, frozen=True):
    """Lines over a common axis; a point that is not finite leaves a gap."""

    title: str
    x: str
    y: str
    series: dict[str, tuple[tuple[float, float], ...]]
    note: str = ""


class Shape(Struct, frozen=True):
    """An element of a drawing: its name, its attributes, the words in it, and those shown when it is pointed at."""

    name: str
    attributes: dict[str, str]
    words: str = ""
    title: str = ""


NONE = "–"
"""What is written for a value that is not there."""
SERIES = 8
"""Colours there are; with more series they come round again."""
HIGH = 220
"""Pixels from the bottom of a plot to its top."""
UPRIGHT = 8
"""Labels up to which bars stand, if the labels then fit."""
NARROW, USUAL = 280, 440
"""Pixels that a plot has across on a phone, and beside another on a wide screen."""
VALUES = 16
"""Upright bars up to which each has its value above it."""
POINTS, ALL = 400, 1600
"""Points that are drawn at most: of a series, and in a plot."""
DOTS = 40
"""Points up to which each is marked."""


Say = Callable[[float], str]
"""How a value is written."""


def bars(part: Bars) -> dict[str, Any]:
    """Return what the template prints of bars: `svg` if they stand, `rows` if they lie, neither if there are none."""
    drawn = [value for values in part.series.values() for value in values if finite(value)]
    view: dict[str, Any] = {
        "title": part.title,
        "note": part.note,
        "legend": _legend(part.series),
        "empty": [name for name, values in part.series.items() if not any(map(finite, values))],
        "rows": [],
        "svg": None,
    }
    if not drawn:
        return view
    low, high = min(0.0, *drawn), max(0.0, *drawn)
    say = _writer(drawn, part.unit)
    view["about"] = f"{len(part.labels)} labels, {len(part.series)} series, {say(min(drawn))} to {say(max(drawn))}"
    widest = max(map(_width, part.labels), default=0.0)
    if len(part.labels) <= UPRIGHT and widest <= NARROW / max(1, len(part.labels)) - 4:
        view["svg"] = list(_upright(part, low, high, say))
    else:
        view["rows"] = [(label, list(_lying(part, n, low, high, say))) for n, label in enumerate(part.labels)]
    return view


def _lying(part: Bars, n: int, low: float, high: float, say: Say) -> Iterator[dict[str, Any]]:
    """Yield the bars of one label: where each begins and how long it is, in percent."""
    wide = high - low or 1.0
    zero = _percent(-low / wide) if low < 0 else ""
    for colour, (name, values) in enumerate(part.series.items()):
        value = values[n] if n < len(values) else None
        bar = {"zero": zero, "about": _named(part, name, part.labels[n], value, say), "colour": "", "value": NONE}
        if finite(value):
            start, length = (min(value, 0.0) - low) / wide, abs(value) / wide
            bar |= {"colour": _colour(colour), "x": _percent(start), "width": _percent(length), "value": say(value)}
        yield bar


def _upright(part: Bars, low: float, high: float, say: Say) -> Iterator[Shape]:
    """Yield the shapes of bars that stand side by side above their labels."""
    ticks, low, high = _scale(low, high if high > low else 1.0)
    yield from _grid(ticks, low, high, part.unit)
    groups, each = len(part.labels), max(1, len(part.series))
    bar = 0.7 / groups / each
    few = groups * each <= VALUES
    base = HIGH * high / (high - low)
    for n, label in enumerate(part.labels):
        for colour, (name, values) in enumerate(part.series.items()):
            value = values[n] if n < len(values) else None
            x = (n + 0.15) / groups + colour * bar
            if not finite(value):
                yield Shape("text", {"x": _percent(x + bar / 2), "y": _short(base - 4), "class": "mid"}, NONE)
                continue
            top, height = base - HIGH * max(value, 0.0) / (high - low), HIGH * abs(value) / (high - low)
            place = {
                "x": _percent(x),
                "y": _short(top),
                "width": _percent(bar * 0.94),
                "height": _short(max(height, 1.0)),
            }
            yield Shape("rect", {**place, "class": _colour(colour)}, title=_named(part, name, label, value, say))
            room = _width(say(value))
            if few and room <= bar * USUAL:
                place = {"x": _percent(x + bar / 2), "y": _short(top - 5 if value >= 0 else top + height + 14)}
                shown = "mid value" if room <= bar * NARROW else "mid value wide"
                yield Shape("text", {**place, "class": shown}, say(value))
        yield Shape("text", {"x": _percent((n + 0.5) / groups), "y": _short(HIGH + 18), "class": "mid"}, label)
    yield Shape("line", {"x1": "0", "x2": "100%", "y1": _short(base), "y2": _short(base), "class": "axis"})


def _named(part: Bars, name: str, label: str, value: float | None, say: Say) -> str:
    what = f"{label}, {name}" if len(part.series) > 1 else label
    return f"{what}: {say(value) if finite(value) else NONE}"


def _colour(n: int) -> str:
    """Return the classes for the n-th series: its colour, and that the colours have come round again."""
    return f"k{n % SERIES} again" if n >= SERIES else f"k{n}"


def _legend(series: Iterable[str]) -> list[tuple[str, str]]:
    found = [(name, _colour(n)) for n, name in enumerate(series)]
    return found if len(found) > 1 else []


def lines(part: Lines) -> dict[str, Any]:
    """Return what the template prints of lines: `svg` for the axes, `curves` and `dots`, or `svg` None."""
    most = min(POINTS, ALL // max(1, len(part.series)))
    runs = {name: list(_runs(points, most)) for name, points in part.series.items()}
    every = [point for found in runs.values() for run in found for point in run]
    view: dict[str, Any] = {
        "title": part.title,
        "note": part.note,
        "legend": _legend(part.series),
        "empty": [name for name, found in runs.items() if not found],
        "x": part.x,
        "y": part.y,
        "svg": None,
    }
    if not every:
        return view
    left, right = _apart(min(x for x, _ in every), max(x for x, _ in every))
    ticks, low, high = _scale(min(y for _, y in every), max(y for _, y in every))
    shapes = [*_grid(ticks, low, high, "")]
    across = _ticks(left, right, 5)
    for x in across:
        at = _percent((x - left) / (right - left))
        shapes.append(Shape("line", {"x1": at, "x2": at, "y1": str(HIGH), "y2": str(HIGH + 4), "class": "axis"}))
        shapes.append(Shape("text", {"x": at, "y": str(HIGH + 18), "class": "mid"}, _tick(x, across)))
    shapes.append(Shape("line", {"x1": "0", "x2": "100%", "y1": str(HIGH), "y2": str(HIGH), "class": "axis"}))
    curves, dots = [], []
    for n, (name, found) in enumerate(runs.items()):
        colour = _colour(n)
        marked = sum(map(len, found)) <= DOTS
        for run in found:
            placed = [((x - left) / (right - left), HIGH * (high - y) / (high - low)) for x, y in run]
            curves.append((colour, " ".join(f"{_short(1000 * x)},{_short(y)}" for x, y in placed)))
            for (x, y), (along, down) in zip(run, placed, strict=True):
                about = f"{name}: {part.x} {_number(x)}, {part.y} {_number(y)}"
                shown = " on" if marked or len(run) == 1 else ""
                place = {"cx": _percent(along), "cy": _short(down), "r": "3.5", "class": f"dot {colour}{shown}"}
                dots.append(Shape("circle", place, title=about))
    view["about"] = "; ".join(f"{name} {_course(found)}" for name, found in runs.items() if found)
    return view | {"svg": shapes, "curves": curves, "dots": dots, "high": HIGH}


def _course(runs: Sequence[Sequence[tuple[float, float]]]) -> str:
    every = list(chain.from_iterable(runs))
    return f"from {_number(every[0][1])} to {_number(every[-1][1])} over {len(every)} points"


def _runs(points: Sequence[tuple[float, float]], most: int) -> Iterator[list[tuple[float, float]]]:
    """Yield the points that can be drawn, a list for each stretch without a gap.

    Of a series that is too long the lowest and the highest of every few are kept, so that no peak is lost.
    """
    kept, gaps = [], 0
    for x, y in points:
        if finite(x) and finite(y):
            kept.append((gaps, (x, y)))
        else:
            gaps += 1
    if len(kept) > most:
        few = max(1, most // 2 - 1)  # less the two ends, which are kept too
        edges = [len(kept) * n // few for n in range(few + 1)]
        pairs = (sorted(range(a, b), key=lambda n: kept[n][1][1]) for a, b in pairwise(edges))
        kept = [kept[n] for n in sorted({0, len(kept) - 1, *(n for pair in pairs for n in (pair[0], pair[-1]))})]
    run: list[tuple[float, float]] = []
    last = 0
    for gap, point in kept:
        if gap != last and run:
            yield run
            run = []
        run.append(point)
        last = gap
    if run:
        yield run


def _grid(ticks: Sequence[float], low: float, high: float, unit: str) -> Iterator[Shape]:
    for tick in ticks:
        y = _short(HIGH * (high - tick) / (high - low))
        yield Shape("line", {"x1": "0", "x2": "100%", "y1": y, "y2": y, "class": "grid"})
        words = _tick(tick, ticks) + (unit if unit == "%" else "")
        yield Shape("text", {"x": "-8", "y": y, "dy": "4", "class": "end"}, words)


def _scale(low: float, high: float) -> tuple[list[float], float, float]:
    """Return round ticks that hold the values, and where the axis begins and ends."""
    low, high = _apart(low, high)
    step = _step(low, high, 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [n * step for n in range(first, last + 1)]
    return ticks, ticks[0], ticks[-1]


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return round numbers between two numbers, about as many as asked for."""
    step = _step(low, high, count)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _step(low: float, high: float, count: int) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that takes no more than so many steps."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))


def _apart(low: float, high: float) -> tuple[float, float]:
    """Return two ends with room between them, for values that are all but equal too."""
    largest = max(abs(low), abs(high))
    if high - low > max(largest * 1e-9, 1e-290):
        return low, high
    room = largest * 0.05 if largest > 1e-280 else 1.0
    return low - room, high + room


def _tick(value: float, ticks: Sequence[float]) -> str:
    """Return a tick's number with as many digits as tell it from its neighbours."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(value) or 1.0
    most = max(map(abs, ticks))
    power = math.floor(math.log10(step) + 1e-9)
    if most >= 1e6 and power >= 4:
        return f"{value / 1e6:,.{max(0, 6 - power)}f}M" if most < 1e9 else f"{value:.{_digits(most, power)}g}"
    return f"{value:,.{max(0, -power)}f}" if power >= -4 else f"{value:.{_digits(most, power)}g}"


def _digits(most: float, power: int) -> int:
    return min(15, max(1, math.floor(math.log10(most)) - power + 1))


def _writer(values: Sequence[float], unit: str) -> Say:
    """Return how these values are written: all with as many decimals as the one that needs most."""
    after = unit if unit in ("", "%") else f" {unit}"
    plain = [_number(value) for value in values]
    if any("e" in text for text in plain):
        return lambda value: _number(value) + after
    decimals = max(len(text.partition(".")[2]) for text in plain)
    return lambda value: f"{value:,.{decimals}f}{after}"


def _number(value: float) -> str:
    """Return a number in four digits or so; a whole one in all of them."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def finite(value: object) -> TypeGuard[float]:
    """Say whether a value is a number that can be drawn; beyond 1e300 a difference of two would not be one."""
    return isinstance(value, (int, float)) and abs(value) < 1e300


def _percent(share: float) -> str:
    return f"{_short(100 * share)}%"


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _width(text: str) -> float:
    """Return about how many pixels a label takes: a Chinese character is square, a letter about half of that."""
    return sum(12.0 if ord(letter) >= 0x2E80 else 6.8 for letter in text)
