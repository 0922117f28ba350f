"""Geometry: angles, lengths, areas, volumes, in the plane with and without coordinates."""

from fractions import Fraction
from random import Random

from datagen.teacher.mathematics.problems import Family, Problem, polynomial, text, total

TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29), (9, 40, 41))


def third_angle(rng: Random) -> Problem:
    """The third angle of a triangle."""
    a, b = rng.randint(21, 85), rng.randint(21, 85)
    return Problem(
        sought=f"两个内角为{a}度和{b}度的三角形的第三个内角的度数",
        value=180 - a - b,
        steps=("三角形的内角和是180度", f"第三个内角为180-{a}-{b}={180 - a - b}"),
        mistakes=(
            (a + b, "求成了外角"),
            (360 - a - b, "把内角和当作360度"),
            (180 - a, "只减去一个角"),
            (180 - b, "只减去一个角"),
        ),
        about="三角形的内角和",
    )


def rectangle(rng: Random) -> Problem:
    """Perimeter or area of a rectangle."""
    b, more, perimeter = rng.randint(2, 18), rng.randint(1, 18), rng.random() < 0.5
    a = b + more
    if perimeter:
        return Problem(
            sought=f"长为{a}、宽为{b}的长方形的周长",
            value=2 * (a + b),
            steps=("周长是长与宽之和的2倍", f"得2×({a}+{b})={2 * (a + b)}"),
            mistakes=((a + b, "只加了一组邻边"), (a * b, "求成了面积"), (2 * a + b, "宽没有乘以2")),
            about="长方形的周长",
        )
    return Problem(
        sought=f"长为{a}、宽为{b}的长方形的面积",
        value=a * b,
        steps=("面积是长与宽之积", f"得{a}×{b}={a * b}"),
        mistakes=((2 * (a + b), "求成了周长"), (a + b, "把相乘当作相加"), (2 * a * b, "多乘了2")),
        about="长方形的面积",
    )


def triangle(rng: Random) -> Problem:
    """The area of a triangle by base and height."""
    a, h = rng.randint(3, 24), rng.randint(2, 20)
    if a * h % 2:
        a += 1
    return Problem(
        sought=f"底为{a}、高为{h}的三角形的面积",
        value=a * h // 2,
        steps=("三角形的面积是底与高之积的一半", f"得{a}×{h}/2={a * h // 2}"),
        mistakes=((a * h, "没有除以2"), (a + h, "把相乘当作相加"), (2 * a * h, "把除以2当作乘以2")),
        about="三角形的面积",
    )


def hypotenuse(rng: Random) -> Problem:
    """A side of a right triangle."""
    triple, k = rng.choice(TRIPLES), rng.randint(1, 8)
    a, b, c = (k * n for n in triple)
    if rng.random() < 0.5:
        return Problem(
            sought=f"两条直角边为{a}和{b}的直角三角形的斜边长",
            value=c,
            steps=(f"{a}^2+{b}^2={c * c}", f"{c * c}开平方得{c}"),
            mistakes=((a + b, "把两边相加"), (c * c, "没有开平方"), (b - a, "把两边相减"), (c - a, "多减了一边")),
            about="勾股定理",
        )
    return Problem(
        sought=f"斜边为{c}、一条直角边为{a}的直角三角形的另一条直角边长",
        value=b,
        steps=(f"{c}^2-{a}^2={b * b}", f"{b * b}开平方得{b}"),
        mistakes=((c - a, "把两边相减"), (b * b, "没有开平方"), (c + a, "把两边相加"), (a, "当作两条直角边相等")),
        about="勾股定理",
    )


def polygon(rng: Random) -> Problem | None:
    """Angles and diagonals of a polygon."""
    n, kind = rng.randint(5, 24), rng.random() < 0.3
    if kind:
        return Problem(
            sought=f"{n}边形的对角线条数",
            value=n * (n - 3) // 2,
            steps=(f"每个顶点引出{n - 3}条对角线，每条数了两次", f"得{n}×{n - 3}/2={n * (n - 3) // 2}"),
            mistakes=(
                (n * (n - 3), "每条数了两次"),
                (n * (n - 1) // 2, "把边也算了进去"),
                (n - 3, "只数了一个顶点"),
                (n * (n - 2) // 2, "只减去一条邻边"),
            ),
            about="多边形的对角线",
        )
    if n > 8:
        return None
    known = rng.randint(30, 170)
    all_, rest = (n - 2) * 180, (n - 2) * 180 - known
    return Problem(
        sought=f"{n}边形其余内角之和为{rest}度时最后一个内角的度数",
        value=known,
        steps=(f"内角和为({n}-2)×180={all_}", f"最后一个内角为{all_}-{rest}={known}"),
        mistakes=(
            (known + 180, "内角和多算了180度"),
            (180 - known, "求成了外角"),
            (known - 180, "内角和少算了180度"),
            (abs(360 - rest), "把内角和当作外角和"),
        ),
        about="多边形的内角和",
    )


def distance(rng: Random) -> Problem:
    """The distance of two points."""
    a, b, c = rng.choice(TRIPLES[:3])
    k = rng.randint(1, 3 if c == 5 else 1)
    if rng.random() < 0.5:
        a, b = b, a
    dx, dy, d = k * a * rng.choice((-1, 1)), k * b * rng.choice((-1, 1)), k * c
    x, y = rng.randint(-9, 9), rng.randint(-9, 9)
    return Problem(
        sought=f"点({x},{y})与点({x + dx},{y + dy})的距离",
        value=d,
        steps=(
            f"横坐标相差{abs(dx)}，纵坐标相差{abs(dy)}",
            f"{abs(dx)}^2+{abs(dy)}^2={d * d}，开平方得{d}",
        ),
        mistakes=(
            (abs(dx) + abs(dy), "把两个差相加"),
            (d * d, "没有开平方"),
            (max(abs(dx), abs(dy)), "只看了一个坐标"),
            (abs(abs(dx) - abs(dy)), "把两个差相减"),
        ),
        about="两点间的距离",
    )


def trapezium(rng: Random) -> Problem:
    """The area of a trapezium."""
    a, more, h = rng.randint(2, 12), rng.randint(1, 12), rng.randint(2, 12)
    b = a + more
    if (a + b) * h % 2:
        h += 1
    return Problem(
        sought=f"上底为{a}、下底为{b}、高为{h}的梯形的面积",
        value=(a + b) * h // 2,
        steps=("梯形的面积是两底之和乘以高的一半", f"得({a}+{b})×{h}/2={(a + b) * h // 2}"),
        mistakes=(
            ((a + b) * h, "没有除以2"),
            (a * h, "漏了下底"),
            (b * h, "漏了上底"),
            (a * b * h // 2, "把两底相乘"),
        ),
        about="梯形的面积",
    )


def cuboid(rng: Random) -> Problem:
    """Surface or volume of a cuboid."""
    a, b, c = sorted((rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9)), reverse=True)
    faces, volume = a * b + b * c + a * c, a * b * c
    if rng.random() < 0.6:
        return Problem(
            sought=f"长宽高为{a}、{b}、{c}的长方体的表面积",
            value=2 * faces,
            steps=("表面积是三个不同面面积之和的2倍", f"得2×({a}×{b}+{b}×{c}+{a}×{c})={2 * faces}"),
            mistakes=(
                (faces, "只算了三个面"),
                (volume, "求成了体积"),
                (4 * (a + b + c), "求成了棱长之和"),
                (2 * (a * b + b * c), "漏了一对面"),
            ),
            about="长方体的表面积",
        )
    return Problem(
        sought=f"长宽高为{a}、{b}、{c}的长方体的体积",
        value=volume,
        steps=("体积是长宽高之积", f"得{a}×{b}×{c}={volume}"),
        mistakes=(
            (2 * faces, "求成了表面积"),
            (4 * (a + b + c), "求成了棱长之和"),
            (a * b, "漏乘了高"),
            (faces, "求成了三个面的面积"),
        ),
        about="长方体的体积",
    )


def vertices(rng: Random) -> Problem | None:
    """The area of a triangle by its corners."""
    a, b, c, d = (rng.randint(-9, 9) for _ in range(4))
    if (a * d - b * c) % 2:
        a, c = 2 * a, 2 * c
    twice = abs(a * d - b * c)
    if not twice:
        return None
    return Problem(
        sought=f"顶点为(0,0)、({a},{b})、({c},{d})的三角形的面积",
        value=Fraction(twice, 2),
        steps=(
            f"交叉相乘得{total(a * d, -b * c)}={a * d - b * c}",
            f"取绝对值的一半，得{twice}/2={twice // 2}",
        ),
        mistakes=(
            (twice, "没有除以2"),
            (Fraction(abs(a * d + b * c), 2), "交叉相乘弄反了符号"),
            (Fraction(abs(a * c - b * d), 2), "没有交叉相乘"),
            (abs(a * d + b * c), "弄反符号又没有除以2"),
        ),
        about="坐标求面积",
    )


def to_line(rng: Random) -> Problem:
    """The distance of a point from a line."""
    a, b, n = rng.choice(((3, 4, 5), (4, 3, 5), (5, 12, 13), (12, 5, 13), (6, 8, 10), (8, 6, 10)))
    b *= rng.choice((-1, 1))
    x, y, d = rng.randint(-6, 6), rng.randint(-6, 6), rng.randint(1, 6)
    at = n * d * rng.choice((-1, 1))
    c = at - a * x - b * y
    return Problem(
        sought=f"点({x},{y})到直线{polynomial((a, 'x'), (b, 'y'), (c, ''))}=0的距离",
        value=d,
        steps=(f"代入左边得{total(a * x, b * y, c)}={at}", f"{n * d}除以系数平方和的根{n}，得{n * d}/{n}={d}"),
        mistakes=(
            (n * d, "没有除以系数平方和的根"),
            (Fraction(n * d, n * n), "没有开平方就相除"),
            (Fraction(n * d, a + abs(b)), "除以了系数之和"),
            (Fraction(abs(at - c), n), "漏了常数项"),
        ),
        about="点到直线的距离",
    )


def axes(rng: Random) -> Problem:
    """The triangle that a line cuts off the axes."""
    k, x = rng.choice([-6, -5, -4, -3, -2, 2, 3, 4, 5, 6]), rng.choice([n for n in range(-9, 10) if n])
    b = -k * x
    return Problem(
        sought=f"直线y={polynomial((k, 'x'), (b, ''))}与两坐标轴围成的三角形的面积",
        value=Fraction(abs(x * b), 2),
        steps=(f"直线与x轴交于({x},0)，与y轴交于(0,{b})", f"面积为{abs(x)}×{abs(b)}/2={text(Fraction(abs(x * b), 2))}"),
        mistakes=(
            (abs(x * b), "没有除以2"),
            (Fraction(abs(k * b), 2), "把斜率当作截距"),
            (abs(x) + abs(b), "把两截距相加"),
            (Fraction(b * b, 2), "只用了一个截距"),
        ),
        about="直线与坐标轴",
    )


def chord(rng: Random) -> Problem:
    """The length of a chord."""
    triple, k = rng.choice(TRIPLES[:4]), rng.randint(1, 6)
    d, half, r = (k * n for n in triple)
    if rng.random() < 0.5:
        d, half = half, d
    return Problem(
        sought=f"半径为{r}的圆中到圆心距离为{d}的弦长",
        value=2 * half,
        steps=(f"半弦长的平方为{r}^2-{d}^2={half * half}", f"弦长为2×{half}={2 * half}"),
        mistakes=(
            (half, "只求了半弦长"),
            (2 * r, "求成了直径"),
            (2 * (r - d), "把半径与距离相减"),
            (2 * d, "把距离当作半弦长"),
            (r + d, "把半径与距离相加"),
        ),
        about="圆的弦长",
    )


FAMILIES: dict[str, tuple[Family, ...]] = {
    "basic": (third_angle, rectangle, triangle, hypotenuse),
    "intermediate": (distance, trapezium, cuboid, polygon),
    "advanced": (vertices, to_line, axes, chord),
}
