"""Number theory: divisors, remainders, last digits, congruences."""

from math import gcd, lcm
from random import Random

from datagen.teacher.mathematics.problems import Family, Problem


def greatest(rng: Random) -> Problem:
    """The greatest common divisor."""
    g, (a, b) = rng.choice([4, 6, 8, 9, 10, 12, 14, 15, 16, 18, 20, 21, 24]), rng.sample(range(2, 10), 2)
    one, two = sorted((g * a, g * b))
    d = gcd(one, two)
    part = next(n for n in (2, 3, 5, 7) if d % n == 0)
    return Problem(
        sought=f"{one}与{two}的最大公约数",
        value=d,
        steps=(f"{one}={d}×{one // d}，{two}={d}×{two // d}", f"{one // d}与{two // d}互质，最大公约数为{d}"),
        mistakes=(
            (d // part, "公约数没有取到最大"),
            (lcm(one, two), "求成了最小公倍数"),
            (two - one, "只求了两数之差"),
            (one, "取了较小的数"),
            (part, "只取了一个质因数"),
        ),
        about="最大公约数",
    )


def multiple(rng: Random) -> Problem:
    """The least common multiple."""
    one, two = sorted(rng.sample(range(4, 41), 2))
    m, d = lcm(one, two), gcd(one, two)
    return Problem(
        sought=f"{one}与{two}的最小公倍数",
        value=m,
        steps=(f"两数的最大公约数是{d}", f"最小公倍数为{one}×{two}/{d}={m}"),
        mistakes=(
            (one * two, "没有除以最大公约数"),
            (d, "求成了最大公约数"),
            (2 * m, "公倍数没有取到最小"),
            (one + two, "把两数相加"),
            (two, "取了较大的数"),
        ),
        about="最小公倍数",
    )


def remainder(rng: Random) -> Problem:
    """The remainder of a division."""
    a, m = rng.randint(60, 900), rng.choice([6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17])
    q, r = divmod(a, m)
    return Problem(
        sought=f"{a}除以{m}的余数",
        value=r,
        steps=(f"商为{q}，{m}×{q}={m * q}", f"余数为{a}-{m * q}={r}"),
        mistakes=(
            (q, "求成了商"),
            (m - r, "求成了还差多少"),
            (a % 10, "只看了个位"),
            (r + m, "商少取了1"),
        ),
        about="带余除法",
    )


def divisors(rng: Random) -> Problem | None:
    """How many divisors a number has."""
    p, q = sorted(rng.sample((2, 3, 5, 7, 11), 2))
    a, b = rng.randint(1, 5), rng.randint(1, 3)
    n = p**a * q**b
    value = (a + 1) * (b + 1)
    if n > 3000:
        return None
    return Problem(
        sought=f"{n}的正约数个数",
        value=value,
        steps=(f"{n}={p}^{a}×{q}^{b}", f"指数各加1相乘，得({a}+1)×({b}+1)={value}"),
        mistakes=(
            (a * b, "指数没有加1"),
            (a + b, "把指数相加"),
            (value - 2, "漏了1和它本身"),
            (a + b + 2, "指数加1后没有相乘"),
            (value - 1, "漏了它本身"),
        ),
        about="约数的个数",
    )


def last_digit(rng: Random) -> Problem:
    """The last digit of a power."""
    a, n = rng.choice([2, 3, 7, 8, 12, 13, 17, 18, 22, 23, 27, 28]), rng.randint(9, 60)
    cycle = [pow(a, k, 10) for k in (1, 2, 3, 4)]
    value = pow(a, n, 10)
    return Problem(
        sought=f"{a}^{n}的个位数字",
        value=value,
        steps=(f"个位依次为{'、'.join(map(str, cycle))}，每4个一循环", f"{n}除以4余{n % 4}，个位为{value}"),
        mistakes=(
            (pow(a, n + 1, 10), "循环多数了一个"),
            (pow(a, n - 1, 10), "循环少数了一个"),
            (pow(a, n + 2, 10), "余数对错了位置"),
            (a * n % 10, "把乘方当作乘法"),
        ),
        about="幂的个位数字",
    )


def multiples(rng: Random) -> Problem:
    """How many multiples there are between two numbers."""
    d, low, span = rng.randint(3, 13), rng.randint(2, 80), rng.randint(60, 300)
    low += (-low) % d if rng.random() < 0.5 else 0
    high = low + span
    value = high // d - (low - 1) // d
    return Problem(
        sought=f"{low}到{high}中{d}的倍数的个数",
        value=value,
        steps=(
            f"不超过{high}的有{high // d}个，小于{low}的有{(low - 1) // d}个",
            f"得{high // d}-{(low - 1) // d}={value}",
        ),
        mistakes=(
            (value - 1, "漏了一端"),
            (value + 1, "多数了一端"),
            (high // d, "没有减去前面的"),
            (span // d + (value == span // d) * 2, "只用区间长度相除"),
        ),
        about="倍数的个数",
    )


def power(rng: Random) -> Problem:
    """The remainder of a power modulo a prime."""
    p = rng.choice([5, 7, 11, 13, 17])
    a, n = rng.choice([n for n in range(2, 20) if n % p > 1]), rng.randint(10, 60)
    value, short = pow(a, n, p), n % (p - 1)
    return Problem(
        sought=f"{a}^{n}除以{p}的余数",
        value=value,
        steps=(
            f"由费马小定理，{a}^{p - 1}除以{p}余1",
            f"{n}除以{p - 1}余{short}，{a}^{short}除以{p}余{value}",
        ),
        mistakes=(
            (pow(a, n % p, p), f"指数按{p}取了余数"),
            (pow(a, n + 1, p), "指数多算了1"),
            (pow(a, n + p - 2, p), "指数少算了1"),
            (a * n % p, "把乘方当作乘法"),
            (1, "把指数当作整除"),
            (p - value, "弄反了余数的符号"),
        ),
        about="费马小定理",
    )


def chinese(rng: Random) -> Problem:
    """The least number with two given remainders."""
    m, n = sorted(rng.sample([3, 4, 5, 7, 8, 9, 11, 13], 2))
    if gcd(m, n) > 1:
        n += 1
    a, b = rng.randint(1, m - 1), rng.randint(1, n - 1)
    value = next(k for k in range(1, m * n + 1) if k % m == a and k % n == b)
    return Problem(
        sought=f"除以{m}余{a}且除以{n}余{b}的最小正整数",
        value=value,
        steps=(
            f"除以{n}余{b}的数依次为{'、'.join(str(b + n * k) for k in range(3))}等",
            f"其中最先满足除以{m}余{a}的是{value}",
        ),
        mistakes=(
            (value + m * n, "没有取到最小"),
            (a + m * b, "没有检验另一个余数"),
            (b + n, "只满足一个余数"),
            (m * n + a + b, "把余数加到了公倍数上"),
            (next(k for k in range(1, m * n + 1) if k % m == b % m and k % n == a), "两个余数对调了"),
        ),
        about="中国剩余定理",
    )


def either(rng: Random) -> Problem:
    """How many numbers are divisible by one of two."""
    (a, b), n = sorted(rng.sample([2, 3, 4, 5, 6, 7, 9, 10], 2)), rng.randint(40, 300)
    if b % a == 0:
        b += 1
    one, two, both = n // a, n // b, n // lcm(a, b)
    return Problem(
        sought=f"1到{n}中能被{a}或{b}整除的数的个数",
        value=one + two - both,
        steps=(
            f"{a}的倍数有{one}个，{b}的倍数有{two}个，公倍数有{both}个",
            f"由容斥原理得{one}+{two}-{both}={one + two - both}",
        ),
        mistakes=(
            (one + two, "没有减去公倍数"),
            (one + two - 2 * both, "公倍数减了两次"),
            (both, "求成了都能整除"),
            (n - one - two + both, "求成了都不能整除"),
        ),
        about="容斥原理",
    )


def zeros(rng: Random) -> Problem:
    """The zeros at the end of a factorial."""
    n = rng.randint(26, 260)
    parts = [n // 5**k for k in (1, 2, 3) if n >= 5**k]
    value = sum(parts)
    return Problem(
        sought=f"{n}!末尾零的个数",
        value=value,
        steps=("末尾零的个数等于质因数5的个数", f"得{'+'.join(map(str, parts))}={value}"),
        mistakes=(
            (parts[0], "漏了25的倍数中多出的5"),
            (n // 10, "只数了10的倍数"),
            (n // 2, "数成了偶数的个数"),
            (parts[0] + n // 10, "10的倍数数了两次"),
        ),
        about="阶乘末尾的零",
    )


FAMILIES: dict[str, tuple[Family, ...]] = {
    "basic": (greatest, multiple, remainder),
    "intermediate": (divisors, last_digit, multiples),
    "advanced": (power, chinese, either, zeros),
}
