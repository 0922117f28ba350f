"""Calculus: derivatives, integrals, limits, extrema, areas."""

from fractions import Fraction
from math import isqrt
from random import Random

from datagen.teacher.mathematics.problems import Family, Problem, bracketed, polynomial, text, total

SMALL = [n for n in range(-6, 7) if n]


def slope(rng: Random) -> Problem:
    """The derivative of a quadratic at a point."""
    a, b, c, x = rng.randint(1, 6), rng.choice(SMALL), rng.choice(SMALL), rng.choice([-3, -2, -1, 2, 3, 4])
    value = 2 * a * x + b
    return Problem(
        sought=f"函数y={polynomial((a, 'x^2'), (b, 'x'), (c, ''))}在x={x}处的导数",
        value=value,
        steps=(f"导函数为{polynomial((2 * a, 'x'), (b, ''))}", f"代入得{2 * a}×{bracketed(x)}{b:+}={value}"),
        mistakes=(
            (a * x + b, "漏乘了指数2"),
            (a * x * x + b * x + c, "求成了函数值"),
            (2 * a * x, "漏了一次项的导数"),
            (2 * a + b, "没有代入x"),
            (2 * a * x + b + c, "常数项没有消去"),
        ),
        about="多项式的导数",
    )


def area(rng: Random) -> Problem:
    """The integral of a line."""
    a, b, low = rng.choice([2, 4, 6, 8]), rng.choice([n for n in range(-5, 10) if n]), rng.randint(0, 3)
    high = low + rng.randint(1, 5)
    at = [a // 2 * x * x + b * x for x in (low, high)]
    return Problem(
        sought=f"{polynomial((a, 'x'), (b, ''))}从{low}到{high}的定积分",
        value=at[1] - at[0],
        steps=(
            f"原函数为{polynomial((a // 2, 'x^2'), (b, 'x'))}",
            f"两端的值为{at[1]}和{at[0]}，相减得{total(at[1], -at[0])}={at[1] - at[0]}",
        ),
        mistakes=(
            (a * (high**2 - low**2) + b * (high - low), "积分时漏除以2"),
            (at[1] + at[0], "把两端的值相加"),
            (a * (high - low), "求成了函数值之差"),
            (at[0] - at[1], "弄反了上下限"),
            (at[1] - at[0] - b * (high - low), "漏了常数项的积分"),
        ),
        about="定积分",
    )


def limit(rng: Random) -> Problem:
    """The limit of a polynomial."""
    a, b, c, x = rng.randint(1, 4), rng.choice(SMALL), rng.choice(SMALL), rng.choice([-4, -3, -2, -1, 2, 3, 4, 5])
    value = a * x * x + b * x + c
    return Problem(
        sought=f"x趋于{x}时{polynomial((a, 'x^2'), (b, 'x'), (c, ''))}的极限",
        value=value,
        steps=("多项式连续，极限等于函数值", f"得{total(a * x * x, b * x, c)}={value}"),
        mistakes=(
            (2 * a * x + b, "求成了导数"),
            (-a * x * x + b * x + c, "弄反了平方的符号"),
            (a * x * x - b * x + c, "弄反了一次项的符号"),
            (c, "当作x趋于0"),
            (a * x * x + b * x, "漏了常数项"),
        ),
        about="极限",
    )


def cancelled(rng: Random) -> Problem:
    """A limit that looks like 0/0."""
    a, b = rng.sample([n for n in range(-9, 10) if n], 2)
    above, below = polynomial((1, "x^2"), (-a - b, "x"), (a * b, "")), polynomial((1, "x"), (-a, ""))
    return Problem(
        sought=f"x趋于{a}时({above})/({below})的极限",
        value=a - b,
        steps=(f"约去公因式，得{polynomial((1, 'x'), (-b, ''))}", f"代入得{total(a, -b)}={a - b}"),
        mistakes=(
            (0, "把0除以0当作0"),
            (a + b, "因式的符号没有变"),
            (b, "求成了分子的另一个根"),
            (-b, "约分后没有代入x"),
            (b - a, "弄反了符号"),
        ),
        about="约分求极限",
    )


def chain(rng: Random) -> Problem | None:
    """The chain rule."""
    a, b, n, x = rng.choice([-3, -2, 2, 3, 4, 5]), rng.choice(SMALL), rng.choice((2, 3, 4)), rng.randint(-2, 3)
    inner = a * x + b
    if not inner:
        return None
    value = n * a * inner ** (n - 1)
    return Problem(
        sought=f"函数y=({polynomial((a, 'x'), (b, ''))})^{n}在x={x}处的导数",
        value=value,
        steps=(
            f"由链式法则，导函数为{n * a}({polynomial((a, 'x'), (b, ''))}){f'^{n - 1}' if n > 2 else ''}",
            f"代入得{n * a}×{bracketed(inner)}{f'^{n - 1}' if n > 2 else ''}={value}",
        ),
        mistakes=(
            (n * inner ** (n - 1), "漏乘了内层的导数"),
            (a * inner ** (n - 1), "漏乘了指数"),
            (inner**n, "求成了函数值"),
            (n * a * inner**n, "指数没有减1"),
            (-value, "弄反了符号"),
        ),
        about="链式法则",
    )


def rule(rng: Random) -> Problem:
    """The product rule."""
    a, c = rng.choice([2, 3, 4, 5]), rng.choice([1, 2, 3])
    b, d, x = rng.choice(SMALL), rng.choice(SMALL), rng.choice([-2, -1, 1, 2, 3])
    one, two = a * x + b, c * x + d
    value = a * two + c * one
    first, second = polynomial((a, "x"), (b, "")), polynomial((c, "x"), (d, ""))
    return Problem(
        sought=f"函数y=({first})({second})在x={x}处的导数",
        value=value,
        steps=(
            f"由乘法法则，导数为{a}({second})+{c if c > 1 else ''}({first})",
            f"代入得{a}×{bracketed(two)}+{c}×{bracketed(one)}={value}",
        ),
        mistakes=(
            (a * c, "把两个导数相乘"),
            (one * two, "求成了函数值"),
            (a * two, "漏了第二个因式的导数"),
            (a * two - c * one, "把加号写成减号"),
            (a * one + c * two, "因式对错了位置"),
        ),
        about="乘法法则",
    )


def integral(rng: Random) -> Problem:
    """The integral of a quadratic."""
    a, b, c, low = rng.choice([3, 6]), rng.choice([-6, -4, -2, 2, 4, 6]), rng.choice(SMALL), rng.randint(-2, 1)
    high = low + rng.randint(1, 4)
    at = [a // 3 * x**3 + b // 2 * x * x + c * x for x in (low, high)]
    return Problem(
        sought=f"{polynomial((a, 'x^2'), (b, 'x'), (c, ''))}从{low}到{high}的定积分",
        value=at[1] - at[0],
        steps=(
            f"原函数为{polynomial((a // 3, 'x^3'), (b // 2, 'x^2'), (c, 'x'))}",
            f"两端的值为{at[1]}和{at[0]}，相减得{total(at[1], -at[0])}={at[1] - at[0]}",
        ),
        mistakes=(
            (at[1] + at[0], "把两端的值相加"),
            (at[0] - at[1], "弄反了上下限"),
            (a * (high**2 - low**2) + b * (high - low), "求成了函数值之差"),
            (at[1], "只代入了上限"),
            (at[1] - at[0] - c * (high - low), "漏了常数项的积分"),
        ),
        about="定积分",
    )


def peak(rng: Random) -> Problem:
    """An extremum of a cubic."""
    p, c, top = rng.randint(1, 5), rng.randint(-20, 30), rng.random() < 0.5
    high, low = c + 2 * p**3, c - 2 * p**3
    kind, at, value = ("大", -p, high) if top else ("小", p, low)
    return Problem(
        sought=f"函数y={polynomial((1, 'x^3'), (-3 * p * p, 'x'), (c, ''))}的极{kind}值",
        value=value,
        steps=(
            f"导函数3x^2-{3 * p * p}在x={-p}和x={p}处为0",
            f"极{kind}值在x={at}处，为{total(c, value - c)}={value}",
        ),
        mistakes=(
            (low if top else high, f"求成了极{'小' if top else '大'}值"),
            (at, "求成了极值点"),
            (c, "取了x=0处的值"),
            (2 * value - c, "代入时弄反了一次项的符号"),
            (value - c, "漏了常数项"),
        ),
        about="极值",
    )


def mean(rng: Random) -> Problem | None:
    """The minimum of ax+b/x."""
    a, b, k = rng.randint(1, 9), rng.randint(1, 40), rng.randint(0, 9)
    root = isqrt(a * b)
    value = 2 * root + k
    if root * root != a * b:
        return None
    return Problem(
        sought=f"x>0时{polynomial((a, 'x'))}+{b}/x{f'+{k}' if k else ''}的最小值",
        value=value,
        steps=(
            f"{a}×{b}={a * b}，其平方根为{root}",
            f"由均值不等式，最小值为2×{root}{f'+{k}' if k else ''}={value}",
        ),
        mistakes=(
            (root + k, "漏乘了2"),
            (2 * a * b + k, "没有开平方"),
            (a + b + k, "当作在x=1处取到"),
            (2 * root - k, "弄反了常数的符号"),
            (2 * root + 2 * k, "常数也乘了2"),
        ),
        about="均值不等式",
    )


def between(rng: Random) -> Problem:
    """The area between a parabola and a line."""
    p = rng.randint(-5, 3)
    q = p + rng.randint(1, 6)
    w = q - p
    return Problem(
        sought=f"曲线y=x^2与直线y={polynomial((p + q, 'x'), (-p * q, ''))}围成的面积",
        value=Fraction(w**3, 6),
        steps=(f"交点的横坐标为{p}和{q}，相差{w}", f"面积为{w}^3/6={text(Fraction(w**3, 6))}"),
        mistakes=(
            (Fraction(w**3, 3), "积分时漏了一半"),
            (w**3, "没有除以6"),
            (Fraction(w**2, 6), "把立方写成平方"),
            (Fraction(w**3, 2), "除以了2"),
        ),
        about="曲线围成的面积",
    )


def sine(rng: Random) -> Problem:
    """sin(6x)/(3x) near 0."""
    a, b, c = rng.randint(2, 12), rng.randint(2, 9), rng.randint(1, 9)
    value = Fraction(a, b) + c
    return Problem(
        sought=f"x趋于0时sin({a}x)/({b}x)+{c}的极限",
        value=value,
        steps=(f"x趋于0时sin({a}x)与{a}x之比趋于1", f"极限为{a}/{b}+{c}={text(value)}"),
        mistakes=(
            (1 + c, "没有看系数之比"),
            (Fraction(b, a) + c, "把系数之比颠倒"),
            (c, "把正弦当作0"),
            (a + c, "漏除了分母的系数"),
            (Fraction(a, b), "漏了常数"),
        ),
        about="重要极限",
    )


FAMILIES: dict[str, tuple[Family, ...]] = {
    "basic": (slope, area, limit),
    "intermediate": (cancelled, chain, rule, integral),
    "advanced": (peak, mean, between, sine),
}
