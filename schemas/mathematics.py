"""Questions of mathematics, read from their text and decided by computer algebra.

`right` knows a question by what it says, in Chinese with formulas in plain text or LaTeX, and shares nothing with the
code that composes questions, so each checks the other. What it cannot read it says nothing about. `false_equality`
holds an explanation to the numbers that it states. Hostile texts cost no time: `formula` reads within limits.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache
from itertools import pairwise
from math import comb, factorial, gcd, lcm, perm
from typing import TYPE_CHECKING

from schemas.formula import (
    Unreadable,
    expression,
    names,
    number,
    parse,
    plain,
    polynomial,
    root,
    whole_number,
    worked_out,
)
from schemas.record import Options

if TYPE_CHECKING:
    from sympy import Expr, Poly

MAX_TEXT = 400  # characters of a question, and of an option
MAX_OPS = 12  # of a formula whose limit sympy is to find
MAX_COUNTED = 100_000  # numbers gone through one by one


def right(question: str, options: Options) -> tuple[bool, ...] | None:
    """Return for each option whether it answers the question, or None for a question or an option that is not read."""
    if max(map(len, (question, *options))) > MAX_TEXT or not any(map(str.isdigit, question + "".join(options))):
        return None
    asked = _asked(plain(question))
    texts = [plain(option) for option in options]
    for pattern, decide in QUESTIONS:
        found = pattern.fullmatch(asked)
        if found:
            try:
                decided = decide(found.groupdict(), texts)
            except (Unreadable, ZeroDivisionError):
                continue
            if decided is not None:
                return decided
    return None


def false_equality(text: str) -> str | None:
    """Return the first equality between numbers stated in a text that does not hold, as it is written in plain text.

    What is supposed, denied or called a mistake is not stated.
    """
    if "=" not in text and "＝" not in text:
        return None
    for sentence in _SENTENCE.split(text):
        if ("=" in sentence or "＝" in sentence) and not _NOT_STATED.search(sentence):
            for clause in map(plain, _CLAUSE.split(sentence)):
                for run in _RUN.finditer(clause):
                    found = _false(clause, run.start(), run[0].split("="), run.end())
                    if found:
                        return found
    return None


def _false(clause: str, start: int, sides: list[str], end: int) -> str | None:
    """The first of neighbouring sides that are numbers and differ; what lies beyond the formula may change it."""
    for at, (left, other) in enumerate(pairwise(sides)):
        whole = at > 0 or _begins(clause, start, left)
        if at == len(sides) - 2 and _UNENDED.match(clause, end):
            whole = False
        # a!=b may say that they differ
        numbers = not left.endswith("!") and _NUMERIC.fullmatch(left) and _NUMERIC.fullmatch(other)
        if whole and numbers and _differ(left, other):
            return f"{left}={other}"
    return None


def _begins(sentence: str, at: int, side: str) -> bool:
    """Whether a side begins here: 3个-2=1 and 1,002-2=1,000 have their beginning before it."""
    if not at or not side:
        return True
    if sentence[at - 1] == ",":
        return not (sentence[at - 2 : at - 1].isdecimal() and _THOUSANDS.match(side))
    return side[0] not in "+*/^)!%" and (side[0] != "-" or sentence[at - 1] in _LEADS)


@lru_cache(maxsize=4096)
def _differ(left: str, other: str) -> bool:
    """Whether two numbers differ; a decimal is as good as its digits; what cannot be worked out does not."""
    try:
        one, two = number(left), number(other)
    except (Unreadable, ZeroDivisionError):
        return False
    if one == two:
        return False
    for rounded, exact in ((left, two), (other, one)):
        whole, point, digits = rounded.partition(".")
        if point and digits.isdecimal() and whole.lstrip("-").isdecimal():
            return abs(Fraction(rounded) - exact) > Fraction(6, 10 ** (len(digits) + 1))
    return True


def _asked(text: str) -> str:
    """Return what a question asks, without how it is put: 求…, 计算：…, …是多少？"""
    text = _HOW_MANY.sub(r"的\1数", _TAIL.sub("", text))
    return _HEAD.sub("", _SITUATION.sub("", text))


@lru_cache(maxsize=1024)
def _poly(formula: str, name: str = "") -> "Poly":
    """A polynomial in one letter, this one if it is named."""
    import sympy

    node = parse(formula)
    letters = names(node)
    if len(letters) != 1 or (name and letters != {name}):
        raise Unreadable
    return polynomial(sympy.expand(expression(node)), sympy.Symbol(min(letters)))


def _equation(formula: str) -> "Poly":
    """What an equation says is nought."""
    left, sign, other = formula.partition("=")
    if not sign or "=" in other:
        raise Unreadable
    return _poly(f"({left})-({other})")


def _fraction(value: "Expr") -> Fraction:
    """A rational number of sympy's."""
    if not value.is_Rational:
        raise Unreadable
    return Fraction(int(value.p), int(value.q))


def _at(polynomial: "Poly", x: Fraction) -> Fraction:
    import sympy

    return _fraction(polynomial.eval(sympy.Rational(x.numerator, x.denominator)))


# What is sought.


def _evaluated(f: str, **given: Fraction) -> Fraction:
    return worked_out(parse(f), **given)


def _solution(f: str) -> Fraction:
    roots = _roots(f)
    if len(roots) != 1:
        raise Unreadable
    return roots[0]


def _roots(f: str) -> list[Fraction]:
    """The rational roots in order; Unreadable if not all are."""
    equation = _equation(f)
    found = equation.ground_roots()
    if sum(found.values()) != equation.degree():
        raise Unreadable
    return sorted(map(_fraction, found))


def _root_sum(f: str, power: int) -> Fraction:
    """The sum of a power of the roots of a quadratic, by Newton's identities."""
    equation = _equation(f)
    if equation.degree() != 2:
        raise Unreadable
    a, b, c = map(_fraction, equation.all_coeffs())
    sums = [Fraction(2), -b / a]
    while len(sums) <= power:
        sums.append((-b * sums[-1] - c * sums[-2]) / a)
    return sums[power]


def _root_product(f: str) -> Fraction:
    equation = _equation(f)
    if equation.degree() != 2:
        raise Unreadable
    return _fraction(equation.all_coeffs()[2]) / _fraction(equation.LC())


def _under(f: str, g: str, h: str) -> Fraction:
    """The value of a formula in x and y under two equations, one of them linear, if these decide it."""
    import sympy

    x, y = sympy.symbols("x y")
    sides = []
    for equation in (f, g):
        left, sign, other = equation.partition("=")
        if not sign:
            raise Unreadable
        node = parse(f"({left})-({other})")
        if not names(node) <= {"x", "y"}:
            raise Unreadable
        sides.append(expression(node))
    sides.sort(key=lambda side: polynomial(side, x, y).total_degree())
    line = polynomial(sides[0], x, y)
    if line.total_degree() != 1 or not line.coeff_monomial(y):
        raise Unreadable
    given = -(line.coeff_monomial(x) * x + line.coeff_monomial(1)) / line.coeff_monomial(y)
    sought = expression(parse(h)).subs(y, given)
    condition = polynomial(sympy.expand(sides[1].subs(y, given)), x)
    if condition.degree() < 1:
        raise Unreadable
    return _fraction(sympy.rem(polynomial(sympy.expand(sought), x), condition).as_expr())


def _extreme(f: str, least: bool) -> Fraction:
    """The extreme value of a quadratic, where its slope is nought."""
    quadratic = _poly(f)
    if quadratic.degree() != 2 or (quadratic.LC() > 0) != least:
        raise Unreadable
    (x,) = quadratic.diff().ground_roots()
    return _at(quadratic, _fraction(x))


def _telescope(a: Fraction, b: Fraction, c: Fraction, d: Fraction, m: Fraction, n: Fraction) -> Fraction:
    if not (a + 1 == b == c == d - 1 and c <= m == n - 1):
        raise Unreadable
    return sum((1 / (k * (k + 1)) for k in map(Fraction, _range(a, m))), Fraction())


def _range(low: Fraction, high: Fraction) -> range:
    """The integers from one to another."""
    if low.denominator != 1 or high.denominator != 1 or not 0 <= high - low <= MAX_COUNTED:
        raise Unreadable
    return range(int(low), int(high) + 1)


def _terms(a: Fraction, n: Fraction, after: Callable[[Fraction], Fraction]) -> list[Fraction]:
    """The first terms of a sequence."""
    found = [a]
    while len(found) < whole_number(n, 60):
        found.append(after(found[-1]))
    return found


def _fits(value: Fraction, fits: bool) -> Fraction:
    """A value under a condition without which there is none."""
    if not fits:
        raise Unreadable
    return value


def _shoelace(*at: Fraction) -> Fraction:
    points = list(zip(at[::2], at[1::2], strict=True))
    twice = sum((x * w - z * y for (x, y), (z, w) in zip(points, points[1:] + points[:1], strict=True)), Fraction())
    return abs(twice) / 2


def _line(f: str) -> tuple[Fraction, Fraction, Fraction]:
    """a, b, c of the line ax+by+c=0."""
    import sympy

    left, sign, other = f.partition("=")
    node = parse(f"({left})-({other})")
    if not sign or not names(node) <= {"x", "y"}:
        raise Unreadable
    line = polynomial(expression(node), *sympy.symbols("x y"))
    if line.total_degree() != 1:
        raise Unreadable
    a, b, c = (_fraction(line.coeff_monomial(m)) for m in (*line.gens, 1))
    return a, b, c


def _to_line(x: Fraction, y: Fraction, f: str) -> Fraction:
    a, b, c = _line(f)
    return abs(a * x + b * y + c) / root(a * a + b * b)


def _cut_off(f: str) -> Fraction:
    a, b, c = _line(f)
    return abs(c / a * (c / b)) / 2


def _count(low: Fraction, high: Fraction, *divisors: Fraction) -> Fraction:
    """How many integers of a range are divisible by any of these."""
    by = [whole_number(d, MAX_COUNTED) for d in divisors]
    return Fraction(sum(any(k % d == 0 for d in by) for k in _range(low, high)))


def _remainder(f: str, m: Fraction) -> Fraction:
    """The remainder of a number, or of a power too large to be written out."""
    by, node = whole_number(m, 10**6), parse(f)
    if node.op == "^":
        base, exponent = worked_out(node.args[0]), whole_number(worked_out(node.args[1]), 10**9)
        return Fraction(pow(whole_number(base, 10**9), exponent, by))
    return Fraction(whole_number(worked_out(node), 10**18) % by)


def _congruent(
    m: Fraction, a: Fraction, n: Fraction, b: Fraction, p: Fraction = Fraction(1), c: Fraction = Fraction()
) -> Fraction:
    asked = [(whole_number(by, 1000), left) for by, left in ((m, a), (n, b), (p, c))]
    if any(left >= by for by, left in asked):
        raise Unreadable
    for k in range(1, min(lcm(*(by for by, _ in asked)), MAX_COUNTED) + 1):
        if all(k % by == left for by, left in asked):
            return Fraction(k)
    raise Unreadable


def _divisors(n: Fraction) -> list[int]:
    import sympy

    return list(map(int, sympy.divisors(whole_number(n, 10**9))))


def _zeros(n: Fraction) -> Fraction:
    written = str(factorial(whole_number(n, 1000)))
    return Fraction(len(written) - len(written.rstrip("0")))


def _choose(n: Fraction, k: Fraction) -> Fraction:
    return Fraction(comb(whole_number(n, 600), whole_number(k, 600)))


def _arrange(n: Fraction, k: Fraction) -> Fraction:
    return Fraction(perm(whole_number(n, 600), whole_number(k, 600)))


def _solutions(s: str, n: Fraction, least: int) -> Fraction:
    """How many ways there are to write n as a sum of so many numbers, none below the least; counted one by one."""
    names = s.split("+")
    size = whole_number(n, 200)
    if len(set(names)) != len(names):
        raise Unreadable
    ways = [1] + [0] * size
    for _ in names:
        ways = [sum(ways[total - part] for part in range(least, total + 1)) for total in range(size + 1)]
    return Fraction(ways[size])


def _numbers(m: Fraction, k: str, kind: str) -> Fraction:
    """How many numbers of so many different digits up to m there are, counted one by one."""
    size, top = "零一两三四".index(k.replace("二", "两")), whole_number(m, 9)
    of_kind = {"": range(10), "偶": range(0, 10, 2), "奇": range(1, 10, 2)}[kind]
    digits = [
        written
        for value in range(10 ** (size - 1), 10**size)
        if len(set(written := str(value))) == size and max(map(int, written)) <= top and int(written[-1]) in of_kind
    ]
    return Fraction(len(digits))


def _drawn(a: Fraction, b: Fraction, k: Fraction, hits: Callable[[int], bool]) -> Fraction:
    """The chance that of k balls drawn, those of the first colour are so many."""
    n, m, size = whole_number(a, 200), whole_number(b, 200), whole_number(k, 200)
    if size > n + m:
        raise Unreadable
    ways = sum(comb(n, i) * comb(m, size - i) for i in range(size + 1) if hits(i))
    return Fraction(ways, comb(n + m, size))


def _drawn_mean(a: Fraction, b: Fraction, k: Fraction) -> Fraction:
    return sum((i * _drawn(a, b, k, i.__eq__) for i in range(1, whole_number(k, 200) + 1)), Fraction())


def _trials(p: Fraction, n: Fraction, hits: Callable[[int], bool]) -> Fraction:
    times = whole_number(n, 60)
    _fits(p, 0 <= p <= 1)
    return sum((comb(times, i) * p**i * (1 - p) ** (times - i) for i in range(times + 1) if hits(i)), Fraction())


def _derivative(f: str, x: Fraction) -> Fraction:
    return _at(_poly(f, "x").diff(), x)


def _integral(f: str, low: Fraction, high: Fraction) -> Fraction:
    whole = _poly(f, "x").integrate()
    return _at(whole, high) - _at(whole, low)


@lru_cache(maxsize=1024)
def _limit(f: str, x: Fraction) -> Fraction:
    import sympy

    symbol, node = sympy.Symbol("x"), parse(f)
    if names(node) != {"x"}:
        raise Unreadable
    expr = expression(node)
    if expr.is_rational_function(symbol):
        above, below = (polynomial(part, symbol) for part in sympy.fraction(sympy.cancel(expr)))
        return _at(above, x) / _at(below, x)
    if len(expr.atoms(sympy.Function)) > 2 or expr.count_ops() > MAX_OPS:
        raise Unreadable
    try:
        return _fraction(sympy.limit(expr, symbol, sympy.Rational(x.numerator, x.denominator)))
    except (NotImplementedError, ValueError):
        raise Unreadable from None


def _peak(f: str, kind: str) -> Fraction:
    """The value at the one place where the slope is nought and bends the right way."""
    polynomial = _poly(f, "x")
    bend = polynomial.diff().diff()
    places = [Fraction(int(x.p), int(x.q)) for x in polynomial.diff().ground_roots()]
    found = [x for x in places if (_at(bend, x) < 0 if kind == "大" else _at(bend, x) > 0)]
    if len(places) != polynomial.degree() - 1 or len(found) != 1:
        raise Unreadable
    return _at(polynomial, found[0])


def _least_beyond_nought(f: str) -> Fraction:
    """The minimum of ax+b/x+c for x>0, where the slope is nought."""
    import sympy

    x = sympy.Symbol("x")
    expr = expression(parse(f))
    times_x = polynomial(sympy.expand(expr * x), x)
    if times_x.degree() != 2:
        raise Unreadable
    a, c, b = map(_fraction, times_x.all_coeffs())
    _fits(a, a > 0 and b > 0)
    place = root(b / a)
    return a * place + b / place + c


def _enclosed(f: str, g: str) -> Fraction:
    """The area between two graphs that meet twice."""
    import sympy

    x = sympy.Symbol("x")
    gap = polynomial(expression(parse(f)) - expression(parse(g)), x)
    roots = sorted(map(_fraction, gap.ground_roots()))
    if gap.degree() != 2 or len(roots) != 2:
        raise Unreadable
    whole = gap.integrate()
    return abs(_at(whole, roots[1]) - _at(whole, roots[0]))


@lru_cache(maxsize=8192)
def value(sought: str) -> Fraction | None:
    """Return what a noun phrase or a formula in plain signs comes to; None for what is not read."""
    for pattern, kinds, work in _readers():
        found = pattern.fullmatch(sought)
        if found:
            try:
                return Fraction(
                    work(**{k: kinds.get(k, str)(v) for k, v in found.groupdict().items() if v is not None})
                )
            except (Unreadable, ZeroDivisionError, ValueError):
                continue
    try:
        return number(sought.removesuffix("的值").removesuffix("的结果"))
    except (Unreadable, ZeroDivisionError):
        return None


# Questions.


def _given(option: str) -> Fraction:
    """The value that an option states: 5, x=5, 1/2, 30度."""
    option = option.rstrip("。.,;")
    found = value(option)
    return _sought(_NAMED.sub("", _UNIT.sub("", option))) if found is None else found


def _sought(text: str) -> Fraction:
    found = value(text)
    if found is None:
        raise Unreadable
    return found


def _is_value(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    wanted = _sought(groups["p"])
    return tuple(_given(option) == wanted for option in options)


def _has_value(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    wanted = _given(groups["v"])
    return tuple(_given(option) == wanted for option in options)


def _has_not_value(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    return tuple(not held for held in _has_value(groups, options))


def _is_equal(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    wanted = _sought(groups["p"])
    return tuple(option != groups["p"] and _given(option) == wanted for option in options)


def _is_extreme(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    values = [_given(option) for option in options]
    place = {"最大": -1, "最小": 0, "第二大": -2, "第二小": 1}[groups["which"]]
    return tuple(found == sorted(values)[place] for found in values)


def _follows(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    a = _sought(groups["p"])
    wanted = _evaluated(groups["e"], a=a)
    return tuple(_given(option) == wanted for option in options)


def _judges(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    truth = _sought(groups["p"])
    holds = _given(groups["v"]) == truth
    decided = []
    for option in options:
        if _HOLDS.fullmatch(option):
            decided.append(holds)
        elif found := _MENDS.fullmatch(option):
            decided.append(not holds and _given(found["v"]) == truth)
        else:
            raise Unreadable
    return tuple(decided)


def _judges_two(groups: dict[str, str], options: list[str]) -> tuple[bool, ...]:
    held = (_sought(groups["p"]) == _given(groups["v"]), _sought(groups["q"]) == _given(groups["w"]))
    decided = []
    for option in options:
        said = next((true for pattern, true in _VERDICTS if pattern.fullmatch(option)), None)
        if said is None:
            raise Unreadable
        decided.append(said == held)
    return tuple(decided)


@cache
def _readers() -> tuple[tuple[re.Pattern[str], dict[str, Callable[[str], object]], Callable[..., Fraction | int]], ...]:
    """READERS, compiled: #a is a number, @f a formula, 、 whatever joins two things."""
    made = []
    for text, work in READERS:
        kinds: dict[str, Callable[[str], object]] = {}
        for sign, name in re.findall(r"([#@&])([a-z])", text):
            kinds[name] = Fraction if sign == "#" else str
        pattern = text.replace("、", "[、,和与]")
        pattern = re.sub(r"#([a-z])", r"(?P<\1>-?\\d{1,9}(?:/\\d{1,9}|\\.\\d{1,6})?)", pattern)
        pattern = re.sub(r"@([a-z])", r"(?P<\1>[-+*/^()0-9.a-z√|=]{1,80}?)", pattern)
        made.append((re.compile(pattern), kinds, work))
    return tuple(made)


_SIGN = r"(?:[-+*/^()!%|√.0-9A-Za-zπ_<>≤≥≠≈=]|(?<=\d),(?=\d+\))|(?<=\d):(?=\d))"
_RUN = re.compile(rf"(?:{_SIGN})+")
_THOUSANDS = re.compile(r"\d{3}(?!\d)")
_NUMERIC = re.compile(r"(?:[-+*/^()!%|√0-9]|(?<=\d)\.(?=\d)|C(?=\()|(?<=\d),(?=\d+\)))+")
_SENTENCE = re.compile(r"[。！？?；;\n]")
_CLAUSE = re.compile(r"[，、]")
_LEADS = frozenset("得为是即有值:,;、成到作于则(")
_UNENDED = re.compile(r"[余万亿千百兆成折]|\.\.|,\d{3}(?!\d)")
_NOT_STATED = re.compile(r"[错錯误誤≠若]|不等|不成立|不是|并非|如果|假设|假如|假定|mod")
_SITUATION = re.compile(r"^(?![^:]*(?:说|认为|算得|下列))[^\d:=]{5,30}:")
"""What is told before a question and changes nothing: 课堂上,老师请同学们思考:"""
_HEAD = re.compile(r"^(?:请问|问题?:|已知|计算|求出|试求|求解?|请|下面的?|:)+:?")
_TAIL = re.compile(
    r"(?:的值)?(?:,?(?:等于|是|为|=|有|约为)?(?:多少|几|什么|何值|下列哪一?[项个]|\(\)|_+|[?])[种个度条次]?)?[。.?!:_]*$"
)
_HOW_MANY = re.compile(r",?(?:一?共)?有多少种(?:不同)?的?([选排走放分]法)")
_UNIT = re.compile(r"(?<=[\d)])(?:平方厘米|立方厘米|厘米|平方米|立方米|度|种|个|人|条|次|项|元|米|组|对|名|只|步)+$")
_NAMED = re.compile(r"^(?:[a-z]=|等于|是|为)")
_HOLDS = re.compile(r"(?:他|她)?(?:算得|说得|计算|解法|说法|结果|这一说法|该说法)?(?:正确|对|没有错误|无误)[。.]?")
_MENDS = re.compile(
    r"(?:他|她)?(?:算|说|计算|解法|说法|结果|这一说法|该说法)?(?:错误|错了|有误|不对|不正确|错)[,:]?(?:正确结果|结果|答案)?(?:应为|应是|应该是|应当是|应等于)(?P<v>.+)"
)
_VERDICTS = (
    (re.compile(r"(?:甲[和、与]乙|两人|两种说法|甲乙)(?:都|均)(?:说得)?(?:对|正确)"), (True, True)),
    (re.compile(r"只有甲(?:说得|的说法)?(?:对|正确)|甲对,?乙错"), (True, False)),
    (re.compile(r"只有乙(?:说得|的说法)?(?:对|正确)|甲错,?乙对"), (False, True)),
    (re.compile(r"(?:甲[和、与]乙|两人|两种说法|甲乙)(?:都|均)(?:说得)?(?:错|不对|不正确|错误)"), (False, False)),
)

_IS = "(?:等于|是|为|得|=)"
_WHICH = "(?:下列|以下)(?:各项|四项|四个算式|选项|算式)?中?,?"
_ONE = "(?:哪一?[项个组种](?:算式|数)?|的?是哪一?[项个])"

Decide = Callable[[dict[str, str], list[str]], tuple[bool, ...] | None]
QUESTIONS: tuple[tuple[re.Pattern[str], Decide], ...] = tuple(
    (re.compile(pattern), decide)
    for pattern, decide in (
        (rf"(?:{_WHICH})?{_ONE}的?(?:值|结果|得数)?(?:不等于|不是|不为)(?P<v>[^中]+)", _has_not_value),
        (rf"(?:{_WHICH})?{_ONE}的?(?:值|结果|得数)?(?:等于|是|为)(?P<v>[^中]+)", _has_value),
        (rf"{_WHICH}(?:的?值|结果|得数)?(?:等于|是|为)(?P<v>[^中]+?)的(?:(?:是|有)(?:哪一?[项个])?)?", _has_value),
        (rf"(?:{_WHICH})?{_ONE}(?:的值)?(?:与|和|同)(?P<p>.+?)(?:的值)?相等", _is_equal),
        (rf"{_WHICH}(?:数值|值)?(?P<which>最大|最小|第二大|第二小)的(?:是|为)?(?:哪一?[项个])?", _is_extreme),
        (rf"(?:{_WHICH})?{_ONE}(?:的值|的结果)?(?P<which>最大|最小)", _is_extreme),
        (r"(?:设|记|令|若|如果)a(?:为|是|=|等于|表示)(?P<p>.+?),(?:则|那么|求|试求)?(?P<e>[-+*/^()0-9a]+)", _follows),
        (
            r"(?:设|记|令|若|如果)?(?P<p>.+?)(?:为|是|记为|记作|等于)a,(?:则|那么|求|试求)?(?P<e>[-+*/^()0-9a]+)",
            _follows,
        ),
        (
            rf"(?:有人|某人|小明|小红|某学生|一名学生|有同学)(?:算得|说|认为|求得|得到|计算)[:,]?(?P<p>.+?){_IS}(?P<v>-?[\d./]+)"
            r"[,。.]*(?:下列|以下)?(?:哪一?[项种个])?的?(?:评价|判断|说法)?(?:最)?(?:恰当|正确|合适)?(?:的是)?",
            _judges,
        ),
        (
            rf"甲(?:说|算得|认为)[:,]?(?P<p>.+?){_IS}(?P<v>-?[\d./]+)[;,。]乙(?:说|算得|认为)[:,]?(?P<q>.+?){_IS}(?P<w>-?[\d./]+)"
            r"[;,。.]*(?:谁(?:说得|算得)?对|(?:对这两种说法,)?(?:下列)?哪一?[项种个]评价最?(?:恰当|正确))",
            _judges_two,
        ),
        (r"(?P<p>.+)", _is_value),
    )
)
"""How a question is put, most particular first: 多少 and 求 are gone by then."""

READERS: tuple[tuple[str, Callable[..., Fraction | int]], ...] = (
    # algebra
    ("(?:解?关于x的|解)?方程@f(?:的解|的根|中x|,(?:则|求)?x)", _solution),
    ("若@f,(?:则|求)?x", _solution),
    ("x=#x时,?(?:代数式|多项式|函数y=)?@f(?:的值)?", _evaluated),
    ("(?:代数式|多项式)@f(?:在|当)x=#x时的值", _evaluated),
    ("@f、?(?:且|,)@g(?:时|,则?)@h(?:的值)?", _under),
    ("(?:一元二次)?方程@f的较大的?根", lambda f: _roots(f)[-1]),
    ("(?:一元二次)?方程@f的较小的?根", lambda f: _roots(f)[0]),
    ("(?:一元二次)?方程@f的?两个?根(?:的和|之和)", lambda f: _root_sum(f, 1)),
    ("(?:一元二次)?方程@f的?两个?根(?:的积|之积|的乘积)", _root_product),
    ("(?:一元二次)?方程@f的?两个?根的平方(?:和|之和)", lambda f: _root_sum(f, 2)),
    ("(?:一元二次)?方程@f的?两个?根的立方(?:和|之和)", lambda f: _root_sum(f, 3)),
    ("首项(?:为|是)#a、公差(?:为|是)#d的等差数列的?第#n项(?:的值)?", lambda a, d, n: _terms(a, n, lambda t: t + d)[-1]),
    (
        "首项(?:为|是)#a、公差(?:为|是)#d的等差数列的?前#n项(?:的和|和|之和)",
        lambda a, d, n: sum(_terms(a, n, lambda t: t + d)),
    ),
    ("首项(?:为|是)#a、公比(?:为|是)#q的等比数列的?第#n项(?:的值)?", lambda a, q, n: _terms(a, n, lambda t: t * q)[-1]),
    (
        "首项(?:为|是)#a、公比(?:为|是)#q的等比数列的?前#n项(?:的和|和|之和)",
        lambda a, q, n: sum(_terms(a, n, lambda t: t * q)),
    ),
    ("(?:函数y=|二次函数y=|代数式)?@f的最小值", lambda f: _extreme(f, least=True)),
    ("(?:函数y=|二次函数y=|代数式)?@f的最大值", lambda f: _extreme(f, least=False)),
    (r"1/\(#a\*#b\)\+1/\(#c\*#d\)\+\.{3,6}\+1/\(#m\*#n\)(?:的值)?", _telescope),
    # geometry
    ("两个内角(?:分别)?为#a度、#b度的三角形的第三个内角(?:的度数)?", lambda a, b: _fits(180 - a - b, a + b < 180)),
    ("长为#a、宽为#b的(?:长方形|矩形)的周长", lambda a, b: a + b + a + b),
    ("长为#a、宽为#b的(?:长方形|矩形)的面积", lambda a, b: a * b),
    ("底为#a、高为#b的三角形的面积", lambda a, b: a * b / 2),
    ("底为#a、高为#b的平行四边形的面积", lambda a, b: a * b),
    ("两条?直角边(?:分别)?为#a、#b的直角三角形的斜边长?", lambda a, b: root(a * a + b * b)),
    ("斜边为#c、一条直角边为#a的直角三角形的另一条直角边长?", lambda a, c: root(c * c - a * a)),
    ("#n边形的对角线条数", lambda n: _choose(n, Fraction(2)) - n),
    ("#n边形的内角和(?:的度数)?", lambda n: 180 * (n - 2)),
    (
        "#n边形其余内角之和为#r度时最后一个内角的度数",
        lambda n, r: _fits(180 * (n - 2) - r, 0 < 180 * (n - 2) - r < 360),
    ),
    (r"点\(#a,#b\)(?:与|到|和)点\(#c,#d\)的距离", lambda a, b, c, d: root((a - c) ** 2 + (b - d) ** 2)),
    ("上底为#a、下底为#b、高为#h的梯形的面积", lambda a, b, h: (a + b) / 2 * h),
    ("长、?宽、?高(?:分别)?为#a、#b、#c的长方体的表面积", lambda a, b, c: 2 * a * b + 2 * b * c + 2 * c * a),
    ("长、?宽、?高(?:分别)?为#a、#b、#c的长方体的体积", lambda a, b, c: a * b * c),
    (
        r"顶点为\(#a,#b\)、\(#c,#d\)、\(#e,#f\)的三角形的面积",
        lambda a, b, c, d, e, f: _shoelace(a, b, c, d, e, f),
    ),
    (r"点\(#x,#y\)到直线@f的距离", _to_line),
    ("直线@f与两坐标轴围成的三角形的面积", _cut_off),
    ("半径为#r的圆中,?到圆心距离为#d的弦(?:的?长|的长度)", lambda r, d: 2 * root(r * r - d * d)),
    # number theory
    ("#a、#b的最大公[约因]数", lambda a, b: gcd(whole_number(a, 10**9), whole_number(b, 10**9))),
    ("#a、#b的最小公倍数", lambda a, b: lcm(whole_number(a, 10**9), whole_number(b, 10**9))),
    ("@f除以#m的?余数", _remainder),
    ("#n的正?[约因]数的?个数", lambda n: len(_divisors(n))),
    ("#n的(?:所有)?正?[约因]数之和", lambda n: sum(_divisors(n))),
    ("@f的个位数字?", lambda f: _remainder(f, Fraction(10))),
    ("#a到#b中#d的倍数的?个数", lambda a, b, d: _count(a, b, d)),
    ("#a到#b中能?被#c(?:或|、)#d整除的(?:正?整数|数)的?个数", lambda a, b, c, d: _count(a, b, c, d)),
    ("除以#m余#a(?:且|,|、)除以#n余#b的最小正整数", _congruent),
    ("除以#m余#a(?:,|、)除以#n余#b(?:且|,|、)除以#p余#c的最小正整数", _congruent),
    ("#n!的?末尾(?:连续)?(?:的?零|0)的个数", _zeros),
    # combinatorics
    ("从#n(?:名学生|本书|种颜色|个球|道题|名队员|人|个人)中(?:任?选出?|取出?)#k[名本种个道人]的选法数", _choose),
    ("从#n人中选2人分别(?:任正副班长|任正副队长|获冠亚军|发言第一、第二)的选法数", lambda n: _arrange(n, Fraction(2))),
    ("从#n人中选#k人排成一[列排]的排法数", _arrange),
    ("#n人排成一[列排]的排法数", lambda n: _arrange(n, n)),
    ("从#a种\\w{1,4}?、#b种\\w{1,4}?、#c种\\w{1,4}?中各选一种的选法数", lambda a, b, c: a * b * c),
    (
        "#a个相同(?:的)?[红白蓝黄黑绿]球、#b个相同(?:的)?[红白蓝黄黑绿]球排成一[列排]的排法数",
        lambda a, b: _choose(a + b, b),
    ),
    (
        "从#a男#b女中选#k人且至少(?:有)?1名女生的选法数",
        lambda a, b, k: sum(_choose(b, Fraction(i)) * _choose(a, k - i) for i in range(1, int(k) + 1)),
    ),
    (
        r"从点\(#a,#b\)到点\(#c,#d\)只(?:能)?向右或向上走?的走法数",
        lambda a, b, c, d: _choose(c - a + d - b, d - b),
    ),
    ("方程(?P<s>[a-z](?:[+][a-z]){1,5})=#n的正整数解的?个数", lambda s, n: _solutions(s, n, 1)),
    ("方程(?P<s>[a-z](?:[+][a-z]){1,5})=#n的非负整数解的?个数", lambda s, n: _solutions(s, n, 0)),
    (
        "#n人中#a人(?P<s>.{2,4})、#b人(?P<t>.{2,4})、#c人兼有时,?两样都没有的人数",
        lambda n, a, b, c, s, t: _fits(n - (a - c) - (b - c) - c, c <= min(a, b)),
    ),
    (
        "(?:球|袜子|棋子|卡片)有#k种颜色时,?保证有#m个同色至少要取的个数",
        lambda k, m: k * (m - 1) + 1,
    ),
    ("用数字0到#m组成无重复数字的(?P<k>[一两二三四])位(?P<z>[偶奇]?)数的个数", lambda m, k, z: _numbers(m, k, z)),
    # probability
    (
        "从#a个(?P<s>[红白蓝黄黑绿])球和#b个[红白蓝黄黑绿]球中任[取摸]一个是(?P=s)球的概率",
        lambda a, b, s: a / (a + b),
    ),
    ("从#a到#b中任取一(?:个)?数是#d的倍数的概率", lambda a, b, d: _count(a, b, d) / (b - a + 1)),
    ("命中率为#p时,?射击#n次命中次数的期望", lambda p, n: _fits(p * n, 0 <= p <= 1)),
    (
        "从#a个(?P<s>[红白蓝黄黑绿])球和#b个[红白蓝黄黑绿]球中任取(?:两|2)个都是(?P=s)球的概率",
        lambda a, b, s: _drawn(a, b, Fraction(2), lambda hits: hits == 2),
    ),
    (
        "甲乙命中率为#p、#q时各射一次至少一人命中的概率",
        lambda p, q: _fits(p * q + p * (1 - q) + (1 - p) * q, 0 <= p <= 1 and 0 <= q <= 1),
    ),
    ("(?:抛|掷|投)硬币#n次恰有#k次[正反]面的概率", lambda n, k: _trials(Fraction(1, 2), n, lambda hits: hits == k)),
    ("命中率为#p时,?射击#n次恰(?:好)?中#k次的概率", lambda p, n, k: _trials(p, n, lambda hits: hits == k)),
    (
        "甲袋#a红#b白、乙袋#c红#d白,任选一袋摸到红球时它来自甲袋的概率",
        lambda a, b, c, d: (a / (a + b)) / (a / (a + b) + c / (c + d)),
    ),
    (
        "从#a个红球和#b个白球中任取#k个至少有一个红球的概率",
        lambda a, b, k: _drawn(a, b, k, lambda hits: hits > 0),
    ),
    (
        "从#a个红球和#b个白球中任取#k个时红球个数的期望",
        _drawn_mean,
    ),
    # calculus
    ("(?:函数|曲线)?(?:y|f\\(x\\))=@f在x=#x处的(?:导数|切线斜率|切线的斜率)", _derivative),
    ("@f从#a到#b的定积分", lambda f, a, b: _integral(f, a, b)),
    ("(?:定积分)?∫_?\\(?#a\\)?\\^\\(?#b\\)?@fdx", lambda f, a, b: _integral(f, a, b)),
    ("当?x趋于#x时,?@f的极限", _limit),
    ("(?:极限)?lim_\\(x趋于#x\\)@f", _limit),
    ("函数(?:y|f\\(x\\))=@f的极(?P<k>[大小])值", lambda f, k: _peak(f, k)),
    ("x>0时,?@f的最小值", _least_beyond_nought),
    ("(?:曲线|抛物线)y=@f(?:与|和)直线y=@g围成的(?:图形的)?面积", _enclosed),
)
"""How what is sought is said, and how it is found; 、 stands for any of 、，和与."""
