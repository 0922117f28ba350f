"""Probability: draws from an urn, independent events, repeated trials, conditions, expectations."""

from fractions import Fraction
from math import comb
from random import Random

from datagen.teacher.mathematics.problems import Family, Problem, text


def urn(rng: Random) -> Problem:
    """One ball."""
    r, w = rng.randint(2, 15), rng.randint(2, 15)
    one, two = rng.sample("红白蓝黄黑绿", 2)
    n = r + w
    return Problem(
        sought=f"从{r}个{one}球和{w}个{two}球中任取一个是{one}球的概率",
        value=Fraction(r, n),
        steps=(f"共有{r}+{w}={n}个球", f"概率为{_fraction(r, n)}"),
        mistakes=(
            (Fraction(r, w), f"把{one}球与{two}球相比"),
            (Fraction(w, n), f"求成了{two}球的概率"),
            (Fraction(1, n), "只数了一个球"),
            (Fraction(1, 2), "当作两种颜色等可能"),
            (Fraction(1, r), f"只看了{one}球"),
        ),
        about="古典概型",
    )


def divisible(rng: Random) -> Problem:
    """A number that is divisible."""
    n, d = rng.randint(12, 60), rng.randint(3, 9)
    k = n // d
    return Problem(
        sought=f"从1到{n}中任取一数是{d}的倍数的概率",
        value=Fraction(k, n),
        steps=(f"{d}的倍数有{k}个", f"概率为{_fraction(k, n)}"),
        mistakes=(
            (Fraction(k + 1, n), "倍数多数了一个"),
            (Fraction(k - 1, n), "倍数少数了一个"),
            (Fraction(n - k, n), "求成了不是倍数的概率"),
            (Fraction(d, n), "把除数当作个数"),
        ),
        about="古典概型",
    )


def hits(rng: Random) -> Problem:
    """The expected number of hits."""
    b = rng.randint(3, 10)
    a = rng.randint(1, b - 1)
    p, n = Fraction(a, b), b * rng.randint(2, 12)
    return Problem(
        sought=f"命中率为{text(p)}时射击{n}次命中次数的期望",
        value=p * n,
        steps=("期望是次数与命中率之积", f"得{n}×{text(p)}={text(p * n)}"),
        mistakes=(
            ((1 - p) * n, "求成了未命中的次数"),
            (Fraction(n, p.denominator), "漏乘了分子"),
            (n, "当作每次都命中"),
            (Fraction(n, 2), "当作命中与否等可能"),
            (p * n + 1, "多算了一次"),
        ),
        about="期望",
    )


def both(rng: Random) -> Problem:
    """Two balls without putting back."""
    r, w = rng.randint(2, 9), rng.randint(2, 9)
    one, two = rng.sample("红白蓝黄黑绿", 2)
    n = r + w
    return Problem(
        sought=f"从{r}个{one}球和{w}个{two}球中任取两个都是{one}球的概率",
        value=Fraction(comb(r, 2), comb(n, 2)),
        steps=(
            f"共有C({n},2)={comb(n, 2)}种取法，都是{one}球的有C({r},2)={comb(r, 2)}种",
            f"概率为{_fraction(comb(r, 2), comb(n, 2))}",
        ),
        mistakes=(
            (Fraction(r * r, n * n), "当作取后放回"),
            (Fraction(r, n), "只取了一个"),
            (Fraction(comb(w, 2), comb(n, 2)), f"求成了都是{two}球"),
            (Fraction(r * w, comb(n, 2)), "求成了一种一个"),
        ),
        about="不放回抽取",
    )


def independent(rng: Random) -> Problem:
    """At least one of two independent events."""
    p, q = (Fraction(rng.randint(1, d - 1), d) for d in (rng.randint(2, 8), rng.randint(2, 8)))
    return Problem(
        sought=f"甲乙命中率为{text(p)}和{text(q)}时各射一次至少一人命中的概率",
        value=1 - (1 - p) * (1 - q),
        steps=(
            f"两人都不中的概率为(1-{text(p)})×(1-{text(q)})={text((1 - p) * (1 - q))}",
            f"所求为1-{text((1 - p) * (1 - q))}={text(1 - (1 - p) * (1 - q))}",
        ),
        mistakes=(
            (p * q, "求成了两人都中"),
            (p + q, "直接相加没有去重"),
            ((1 - p) * (1 - q), "求成了两人都不中"),
            (p + q - 2 * p * q, "求成了恰有一人中"),
        ),
        about="独立事件",
    )


def coins(rng: Random) -> Problem:
    """Heads among tosses."""
    n = rng.randint(3, 8)
    k = rng.randint(1, n - 1)
    side, how = rng.choice(("正面", "反面")), rng.choice(("抛硬币", "掷硬币", "投硬币"))
    return Problem(
        sought=f"{how}{n}次恰有{k}次{side}的概率",
        value=Fraction(comb(n, k), 2**n),
        steps=(f"共有2^{n}={2**n}种结果，符合的有C({n},{k})={comb(n, k)}种", f"概率为{_fraction(comb(n, k), 2**n)}"),
        mistakes=(
            (Fraction(1, 2**n), "只数了一种次序"),
            (Fraction(k, n), "把次数相除"),
            (Fraction(comb(n, k - 1), 2**n), "组合数取错了次数"),
            (Fraction(1, 2**k), f"只看了{side}的{k}次"),
            (Fraction(1, n + 1), "当作各种次数等可能"),
        ),
        about="独立重复试验",
    )


def trials(rng: Random) -> Problem:
    """Hits among trials."""
    n, b = rng.randint(2, 5), rng.randint(3, 7)
    k, p = rng.randint(1, n - 1), Fraction(rng.randint(1, b - 1), b)
    value = comb(n, k) * p**k * (1 - p) ** (n - k)
    return Problem(
        sought=f"命中率为{text(p)}时射击{n}次恰中{k}次的概率",
        value=value,
        steps=(
            f"选出命中的{k}次有C({n},{k})={comb(n, k)}种",
            f"概率为{comb(n, k)}×({text(p)})^{k}×({text(1 - p)})^{n - k}={text(value)}",
        ),
        mistakes=(
            (p**k * (1 - p) ** (n - k), "漏了组合数"),
            (comb(n, k) * p**k, "没有乘未命中的概率"),
            (p**k, "只看了命中的几次"),
            (comb(n, k) * (1 - p) ** k * p ** (n - k), "命中与未命中对调"),
        ),
        about="二项分布",
    )


def bayes(rng: Random) -> Problem:
    """From which urn."""
    a, b, c, d = (rng.randint(1, 6) for _ in range(4))
    p, q = Fraction(a, a + b), Fraction(c, c + d)
    return Problem(
        sought=f"甲袋{a}红{b}白、乙袋{c}红{d}白，任选一袋摸到红球时它来自甲袋的概率",
        value=p / (p + q),
        steps=(
            f"从甲袋、乙袋摸到红球的概率为{text(p)}和{text(q)}，两袋等可能",
            f"所求为({text(p)})/({text(p)}+{text(q)})={text(p / (p + q))}",
        ),
        mistakes=(
            (p, "求成了甲袋中红球的比例"),
            ((p + q) / 2, "求成了摸到红球的概率"),
            (Fraction(a, a + c), "直接比较红球个数"),
            (Fraction(1, 2), "没有用摸到红球的条件"),
            (q / (p + q), "求成了来自乙袋"),
        ),
        about="贝叶斯公式",
    )


def some(rng: Random) -> Problem:
    """At least one of a colour."""
    r, w, k = rng.randint(2, 7), rng.randint(3, 7), rng.choice((2, 3))
    n = r + w
    value = 1 - Fraction(comb(w, k), comb(n, k))
    return Problem(
        sought=f"从{r}个红球和{w}个白球中任取{k}个至少有一个红球的概率",
        value=value,
        steps=(
            f"没有红球的概率为C({w},{k})/C({n},{k})={_reduced(comb(w, k), comb(n, k))}",
            f"所求为1-{_reduced(comb(w, k), comb(n, k))}={text(value)}",
        ),
        mistakes=(
            (1 - value, "求成了没有红球"),
            (Fraction(r * comb(w, k - 1), comb(n, k)), "只算了恰有一个红球"),
            (1 - Fraction(w**k, n**k), "当作取后放回"),
            (Fraction(r, n), "只取了一个"),
            (Fraction(comb(r, k), comb(n, k)), "求成了都是红球"),
        ),
        about="对立事件",
    )


def expected(rng: Random) -> Problem:
    """The expected number of a colour."""
    r, w, k = rng.randint(2, 12), rng.randint(2, 12), rng.randint(2, 4)
    n = r + w
    return Problem(
        sought=f"从{r}个红球和{w}个白球中任取{k}个时红球个数的期望",
        value=Fraction(k * r, n),
        steps=(f"每次取到红球的概率都是{_reduced(r, n)}", f"期望为{k}×{r}/{n}={text(Fraction(k * r, n))}"),
        mistakes=(
            (Fraction(r, n), "只取了一个"),
            (Fraction(k * w, n), "求成了白球的个数"),
            (Fraction(k * r, w), "把红球与白球相比"),
            (Fraction(k, 2), "当作两种颜色等可能"),
        ),
        about="期望的线性性质",
    )


def _fraction(above: int, below: int) -> str:
    """A quotient and, if it can be reduced, what it is then: 4/6=2/3."""
    given, reduced = f"{above}/{below}", _reduced(above, below)
    return given if given == reduced else f"{given}={reduced}"


def _reduced(above: int, below: int) -> str:
    return text(Fraction(above, below))


FAMILIES: dict[str, tuple[Family, ...]] = {
    "basic": (urn, divisible, hits),
    "intermediate": (both, independent, coins),
    "advanced": (trials, bayes, some, expected),
}
