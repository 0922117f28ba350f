"""Combinatorics: choosing, arranging, paths, equations in integers, inclusion and exclusion."""

from math import comb, perm
from random import Random

from datagen.teacher.mathematics.problems import Family, Problem


def chosen(rng: Random) -> Problem | None:
    """Choosing some out of many."""
    thing = rng.choice(("名学生", "本书", "种颜色", "个球", "道题", "名队员"))
    n, k = rng.randint(4, 12), rng.randint(2, 4)
    if k > n - 2:
        return None
    return Problem(
        sought=f"从{n}{thing}中选{k}{thing[0]}的选法数",
        value=comb(n, k),
        steps=("与次序无关，用组合数", f"得C({n},{k})={comb(n, k)}"),
        mistakes=(
            (perm(n, k), "把组合当作排列"),
            (n * k, "把两数相乘"),
            (comb(n, k - 1), "少选了一个"),
            (comb(n - 1, k), "少算了一个备选"),
            (comb(n, k + 1), "多选了一个"),
        ),
        about="组合数",
    )


def ranked(rng: Random) -> Problem:
    """Choosing with an order."""
    posts = rng.choice(("分别任正副班长", "分别任正副队长", "分别获冠亚军", "分别发言第一和第二"))
    if rng.random() < 0.6:
        n = rng.randint(4, 25)
        return Problem(
            sought=f"从{n}人中选2人{posts}的选法数",
            value=n * (n - 1),
            steps=("与次序有关，用排列数", f"得{n}×{n - 1}={n * (n - 1)}"),
            mistakes=(
                (comb(n, 2), "把排列当作组合"),
                (n * n, "让一人兼了两职"),
                (2 * n, "把两数相乘"),
                (n + n - 1, "把相乘当作相加"),
            ),
            about="排列数",
        )
    n, k = rng.randint(4, 10), 3
    return Problem(
        sought=f"从{n}人中选{k}人排成一列的排法数",
        value=perm(n, k),
        steps=("与次序有关，用排列数", f"得{n}×{n - 1}×{n - 2}={perm(n, k)}"),
        mistakes=(
            (comb(n, k), "把排列当作组合"),
            (n**k, "让一人站了几个位置"),
            (perm(n, 2), "少排了一个位置"),
            (n * k, "把两数相乘"),
        ),
        about="排列数",
    )


def product(rng: Random) -> Problem:
    """The product rule."""
    a, b, c = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 6)
    one, two, three = rng.choice((("上衣", "裤子", "鞋子"), ("主食", "菜", "汤"), ("字体", "颜色", "纸张")))
    return Problem(
        sought=f"从{a}种{one}、{b}种{two}、{c}种{three}中各选一种的选法数",
        value=a * b * c,
        steps=("各选其一，用分步乘法", f"得{a}×{b}×{c}={a * b * c}"),
        mistakes=(
            (a + b + c, "把相乘当作相加"),
            (a * b, "漏了第三步"),
            (a * b + c, "第三步当作相加"),
            (b * c, "漏了第一步"),
        ),
        about="乘法原理",
    )


def repeated(rng: Random) -> Problem:
    """Arranging like things."""
    a, b = rng.randint(2, 6), rng.randint(2, 6)
    one, two = rng.sample("红白蓝黄黑绿", 2)
    return Problem(
        sought=f"{a}个相同{one}球与{b}个相同{two}球排成一列的排法数",
        value=comb(a + b, a),
        steps=(f"在{a + b}个位置中选{a}个放{one}球", f"得C({a + b},{a})={comb(a + b, a)}"),
        mistakes=(
            (perm(a + b, a), "把相同的球当作不同"),
            (comb(a + b, a - 1), "少选了一个位置"),
            (comb(a + b - 1, a), "少算了一个位置"),
            (a * b, "把两数相乘"),
            (a + b, "把两数相加"),
        ),
        about="相同元素的排列",
    )


def at_least(rng: Random) -> Problem:
    """At least one woman among those chosen."""
    m, w, k = rng.randint(3, 10), rng.randint(2, 8), rng.randint(2, 3)
    value = comb(m + w, k) - comb(m, k)
    return Problem(
        sought=f"从{m}男{w}女中选{k}人且至少1名女生的选法数",
        value=value,
        steps=(
            f"全部选法C({m + w},{k})={comb(m + w, k)}，全是男生的C({m},{k})={comb(m, k)}",
            f"相减得{comb(m + w, k)}-{comb(m, k)}={value}",
        ),
        mistakes=(
            (comb(m + w, k), "没有减去全是男生的"),
            (w * comb(m + w - 1, k - 1), "先选一名女生造成重复"),
            (w * comb(m, k - 1), "只算了恰好一名女生"),
            (comb(m + w, k) - comb(w, k), "减去了全是女生的"),
        ),
        about="间接计数",
    )


def paths(rng: Random) -> Problem:
    """Paths on a grid."""
    a, b, x, y = rng.randint(2, 6), rng.randint(2, 5), rng.randint(-3, 4), rng.randint(-3, 4)
    return Problem(
        sought=f"从点({x},{y})到点({x + a},{y + b})只向右或向上走的走法数",
        value=comb(a + b, a),
        steps=(f"共走{a + b}步，其中{a}步向右", f"得C({a + b},{a})={comb(a + b, a)}"),
        mistakes=(
            (a * b, "把两个方向的步数相乘"),
            (a + b, "求成了步数"),
            (comb(a + b - 1, a), "少走了一步"),
            (2 ** (a + b), "没有限定终点"),
            (comb(a + b + 1, a), "多走了一步"),
        ),
        about="格点路径",
    )


def solutions(rng: Random) -> Problem:
    """Stars and bars."""
    names, positive = rng.choice(("x+y+z", "x+y+z+w")), rng.random() < 0.5
    k, n = len(names) // 2 + 1, rng.randint(5, 24)
    if positive:
        value, how = comb(n - 1, k - 1), f"{n}个1之间有{n - 1}个空，插入{k - 1}块隔板"
        other, top = comb(n + k - 1, k - 1), n - 1
    else:
        value, how = comb(n + k - 1, k - 1), f"{n}个1与{k - 1}块隔板排成一列"
        other, top = comb(n - 1, k - 1), n + k - 1
    return Problem(
        sought=f"方程{names}={n}的{'正' if positive else '非负'}整数解的个数",
        value=value,
        steps=(how, f"得C({top},{k - 1})={value}"),
        mistakes=(
            (other, f"当作{'非负' if positive else '正'}整数解"),
            (comb(top, k), "多插了一块隔板"),
            (comb(top + 1, k - 1), "多算了一个位置"),
            (comb(top - 1, k - 1), "少算了一个位置"),
        ),
        about="隔板法",
    )


def neither(rng: Random) -> Problem:
    """Those in neither of two sets."""
    both, a, b, none = rng.randint(3, 15), rng.randint(4, 25), rng.randint(4, 25), rng.randint(2, 20)
    n = a + b + both + none
    one, two = rng.choice((("会下棋", "会游泳"), ("会唱歌", "会跳舞"), ("学英语", "学法语"), ("订报纸", "订杂志")))
    return Problem(
        sought=f"{n}人中{a + both}人{one}、{b + both}人{two}、{both}人兼有时两样都没有的人数",
        value=none,
        steps=(
            f"至少有一样的为{a + both}+{b + both}-{both}={a + b + both}人",
            f"都没有的为{n}-{a + b + both}={none}人",
        ),
        mistakes=(
            (abs(none - both), "兼有的人数减了两次"),
            (a + b + both, "求成了至少有一样的"),
            (none + both, "多减了一次兼有的人数"),
            (a + b, "求成了恰有一样的"),
        ),
        about="容斥原理",
    )


def pigeons(rng: Random) -> Problem:
    """How many must be taken to be sure."""
    k, m, thing = rng.randint(3, 12), rng.randint(2, 9), rng.choice(("球", "袜子", "棋子", "卡片"))
    return Problem(
        sought=f"{thing}有{k}种颜色时保证有{m}个同色至少要取的个数",
        value=k * (m - 1) + 1,
        steps=(f"最不利时每种颜色各取{m - 1}个", f"再取1个，得{k}×{m - 1}+1={k * (m - 1) + 1}"),
        mistakes=(
            (k * (m - 1), "没有再取一个"),
            (k * m, "每种都取满了"),
            (m, "只想到最有利的情形"),
            (k + 1, "当作只要两个同色"),
            (k * m + 1, "取满之后又多取一个"),
        ),
        about="抽屉原理",
    )


def digits(rng: Random) -> Problem:
    """Numbers without a digit twice."""
    m, k, kind = rng.randint(3, 9), rng.choice((2, 3)), rng.choice(("偶", "奇", ""))
    first = m * perm(m, k - 1)
    if kind:
        odds, at_zero = (m + 1) // 2, perm(m, k - 1)
        odd = odds * (m - 1) * perm(m - 1, k - 2)
        value = odd if kind == "奇" else first - odd
        return Problem(
            sought=f"用数字0到{m}组成无重复数字的{'两三'[k - 2]}位{kind}数的个数",
            value=value,
            steps=(
                f"先排个位，有{odds}种，再排不为0的首位，奇数有{odd}个",
                f"共有{first}个，偶数有{first}-{odd}={first - odd}个",
            )[: 1 if kind == "奇" else 2],
            mistakes=(
                (odds * at_zero if kind == "奇" else (m // 2 + 1) * at_zero, "让0排在了首位"),
                (first - value, f"求成了{'奇' if kind == '偶' else '偶'}数"),
                (first, f"没有限定{kind}数"),
                (value - at_zero if kind == "偶" else value + at_zero, "弄错了个位为0的情形"),
            ),
            about="数字排列",
        )
    return Problem(
        sought=f"用数字0到{m}组成无重复数字的{'两三'[k - 2]}位数的个数",
        value=first,
        steps=(f"首位不为0，有{m}种，其余各位依次选取", f"得{m}×{perm(m, k - 1)}={first}"),
        mistakes=(
            (perm(m + 1, k), "让0排在了首位"),
            (m * (m + 1) ** (k - 1), "让数字重复了"),
            (perm(m, k), "没有用上0"),
            (first - perm(m, k - 1), "少算了一个首位"),
        ),
        about="数字排列",
    )


FAMILIES: dict[str, tuple[Family, ...]] = {
    "basic": (chosen, ranked, product),
    "intermediate": (repeated, at_least, paths),
    "advanced": (solutions, neither, pigeons, digits),
}
