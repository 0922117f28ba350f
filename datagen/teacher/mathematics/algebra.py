"""Algebra: equations, values of expressions, sequences, sums and products of roots."""

from fractions import Fraction
from random import Random

from datagen.teacher.mathematics.problems import Family, Problem, bracketed, polynomial, text, total


def linear(rng: Random) -> Problem:
    """3x+5=20."""
    a, x, b = rng.randint(2, 12), rng.choice([n for n in range(-9, 13) if n]), rng.choice((-1, 1)) * rng.randint(1, 20)
    c = a * x + b
    return Problem(
        sought=f"方程{polynomial((a, 'x'), (b, ''))}={c}的解",
        value=x,
        steps=(f"移项得{a}x={total(c, -b)}={c - b}", f"两边除以{a}得x={c - b}/{a}={x}"),
        mistakes=(
            (Fraction(c + b, a), "移项没有变号"),
            (c - b, "没有除以系数"),
            (-x, "弄反了符号"),
            (c - b - a, "把除以系数当作减去系数"),
        ),
        about="一元一次方程",
    )


def substituted(rng: Random) -> Problem:
    """The value of x^2+3x-5 at x=-2."""
    x, b, c = rng.randint(-7, -2), rng.choice([-5, -4, -3, -2, 2, 3, 4, 5]), rng.choice((-1, 1)) * rng.randint(1, 15)
    square, middle = x * x, b * x
    return Problem(
        sought=f"x={x}时{polynomial((1, 'x^2'), (b, 'x'), (c, ''))}的值",
        value=square + middle + c,
        steps=(
            f"代入得({x})^2={square}，{bracketed(b)}×({x})={middle}",
            f"相加得{total(square, middle, c)}={square + middle + c}",
        ),
        mistakes=(
            (-square + middle + c, "把负数的平方算成负数"),
            (square - middle + c, "乘负数没有变号"),
            (square + middle, "漏了常数项"),
            (2 * x + middle + c, "把平方当作乘以2"),
        ),
        about="代入求值",
    )


def pair(rng: Random) -> Problem:
    """x from x+y and x-y."""
    x, y = rng.randint(-5, 20), rng.choice([n for n in range(-8, 15) if n])
    s, d = x + y, x - y
    return Problem(
        sought=f"x+y={s}且x-y={d}时x的值",
        value=x,
        steps=(f"两式相加得2x={total(s, d)}={s + d}", f"所以x={s + d}/2={x}"),
        mistakes=(
            (s + d, "没有除以2"),
            (y, "求成了y"),
            (s - d, "两式相减又没有除以2"),
            (-x, "弄反了符号"),
        ),
        about="二元一次方程组",
    )


def larger_root(rng: Random) -> Problem:
    """The larger root of x^2-5x+6=0."""
    p, q = sorted(rng.sample([n for n in range(-9, 12) if n], 2))
    return Problem(
        sought=f"方程{polynomial((1, 'x^2'), (-p - q, 'x'), (p * q, ''))}=0的较大根",
        value=q,
        steps=(f"因式分解得({polynomial((1, 'x'), (-p, ''))})({polynomial((1, 'x'), (-q, ''))})=0", f"两根为{p}和{q}"),
        mistakes=(
            (p, "取了较小根"),
            (-q, "因式的符号没有变"),
            (-p, "取了较小根又弄反符号"),
            (p + q, "求成了两根之和"),
            (p * q, "求成了两根之积"),
        ),
        about="一元二次方程",
    )


def term(rng: Random) -> Problem:
    """A term of an arithmetic sequence."""
    a, d, n = rng.randint(-9, 15), rng.choice([-5, -4, -3, -2, 2, 3, 4, 5, 6, 7, 8]), rng.randint(6, 20)
    value = a + (n - 1) * d
    return Problem(
        sought=f"首项为{a}、公差为{d}的等差数列的第{n}项",
        value=value,
        steps=(f"第{n}项比首项多{n - 1}个公差", f"得{a}+{n - 1}×{bracketed(d)}={value}"),
        mistakes=(
            (a + n * d, "多加了一个公差"),
            (a + (n - 2) * d, "少加了一个公差"),
            ((n - 1) * d, "漏了首项"),
            (a - (n - 1) * d, "弄反了公差的符号"),
        ),
        about="等差数列的通项",
    )


def least(rng: Random) -> Problem:
    """The minimum of x^2-6x+11 by completing the square."""
    p, c = rng.choice([n for n in range(-9, 10) if n]), rng.randint(-20, 40)
    value = c - p * p
    return Problem(
        sought=f"{polynomial((1, 'x^2'), (-2 * p, 'x'), (c, ''))}的最小值",
        value=value,
        steps=(
            f"配方得({polynomial((1, 'x'), (-p, ''))})^2{value:+}",
            f"平方不小于0，最小值为{total(c, -p * p)}={value}",
        ),
        mistakes=(
            (c, "配方后没有减去平方"),
            (c + p * p, "把减去平方写成加上"),
            (c - 4 * p * p, "一次项系数没有取一半"),
            (p, "求成了取最小值的x"),
        ),
        about="配方求最小值",
    )


def squares(rng: Random) -> Problem:
    """The sum of the squares of both roots, by Vieta."""
    s, q = rng.choice([n for n in range(-12, 13) if abs(n) > 2]), rng.choice([n for n in range(-9, 10) if n])
    if s * s <= 4 * q:
        q = -q
    return Problem(
        sought=f"方程{polynomial((1, 'x^2'), (-s, 'x'), (q, ''))}=0两根的平方和",
        value=s * s - 2 * q,
        steps=(
            f"由韦达定理，两根之和为{s}，积为{q}",
            f"平方和为{bracketed(s)}^2-2×{bracketed(q)}={s * s - 2 * q}",
        ),
        mistakes=(
            (s * s, "漏了减去积的2倍"),
            (s * s + 2 * q, "弄反了积的符号"),
            (s * s - q, "积没有乘以2"),
            (s * s - 4 * q, "求成了差的平方"),
        ),
        about="韦达定理",
    )


def cubes(rng: Random) -> Problem:
    """x^3+y^3 from x+y and xy."""
    s, p = rng.choice([n for n in range(-7, 9) if abs(n) > 1]), rng.choice([n for n in range(-9, 10) if n])
    return Problem(
        sought=f"x+y={s}且xy={p}时x^3+y^3的值",
        value=s**3 - 3 * p * s,
        steps=(
            "x^3+y^3=(x+y)^3-3xy(x+y)",
            f"代入得{bracketed(s)}^3-3×{bracketed(p)}×{bracketed(s)}={s**3 - 3 * p * s}",
        ),
        mistakes=(
            (s**3, "漏了交叉项"),
            (s**3 + 3 * p * s, "弄反了交叉项的符号"),
            (s**3 - p * s, "交叉项没有乘以3"),
            (s**3 - 3 * p, "交叉项漏乘两数之和"),
        ),
        about="立方和公式",
    )


def telescope(rng: Random) -> Problem:
    """1/(3×4)+1/(4×5)+…+1/(9×10)."""
    m = rng.randint(1, 9)
    n = m + rng.randint(3, 15)
    value = Fraction(1, m) - Fraction(1, n + 1)
    return Problem(
        sought=f"1/({m}×{m + 1})+1/({m + 1}×{m + 2})+…+1/({n}×{n + 1})的值",
        value=value,
        steps=("每一项拆成两个分数之差，中间各项抵消", f"得1/{m}-1/{n + 1}={text(value)}"),
        mistakes=(
            (Fraction(1, m) - Fraction(1, n), "末项少取一项"),
            (1 - Fraction(1, n + 1), "首项当作从1开始"),
            (Fraction(1, m) + Fraction(1, n + 1), "抵消后弄反了符号"),
            (Fraction(1, m + 1) - Fraction(1, n + 1), "多消去了一项"),
            (Fraction(1, n + 1), "只剩下末项"),
        ),
        about="裂项相消",
    )


def geometric(rng: Random) -> Problem:
    """The sum of the first terms of a geometric sequence."""
    a, q, n = rng.randint(1, 9), rng.choice([-3, -2, 2, 3, 4]), rng.randint(3, 6)
    value = a * (q**n - 1) // (q - 1)
    return Problem(
        sought=f"首项为{a}、公比为{q}的等比数列的前{n}项和",
        value=value,
        steps=(
            f"用求和公式，首项乘以公比的{n}次方减1，再除以公比减1",
            f"得{a}×({bracketed(q)}^{n}-1)/({q}-1)={value}",
        ),
        mistakes=(
            (a * q ** (n - 1), "求成了末项"),
            (a * (q ** (n - 1) - 1) // (q - 1), "少加了一项"),
            (a * (q**n - 1), "没有除以公比减1"),
            (a * (q ** (n + 1) - 1) // (q - 1), "多加了一项"),
        ),
        about="等比数列求和",
    )


FAMILIES: dict[str, tuple[Family, ...]] = {
    "basic": (linear, substituted, pair),
    "intermediate": (larger_root, term, least),
    "advanced": (squares, cubes, telescope, geometric),
}
