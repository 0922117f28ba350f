"""What the text of a question of mathematics says is right, and which stated equalities do not hold."""

import time

import pytest

from schemas.mathematics import READERS, false_equality, right, value

FIVE = ("5", "15", "25/3", "-5")


@pytest.mark.parametrize(
    ("question", "options", "letters"),
    [
        # one question in the ways that it is written
        ("方程3x+5=20的解是多少？", FIVE, "A"),
        ("求方程3x+5=20的解。", FIVE, "A"),
        ("解方程3x+5=20，x等于多少？", FIVE, "A"),
        ("解方程 $3x + 5 = 20$，求 $x$ 的值。", FIVE, "A"),
        ("已知方程３ｘ＋５＝２０，则x的值是（　　）", FIVE, "A"),
        ("若3x+5=20，则x等于（ ）。", ("$x=5$", "x=15", r"$\frac{25}{3}$", "$-5$"), "A"),
        # options by value
        ("计算：$\\frac{1}{2}+\\frac13$", ("0.8", "5/6", "2/5", "1/6"), "B"),
        ("1÷2等于多少？", ("0.5", "2", "1/2", r"$\frac{1}{2}$"), "ACD"),
        ("从7名学生中选出3名，共有多少种不同的选法？", ("35种", "210种", "21 种", "10个"), "A"),
        ("两个内角为50度和60度的三角形的第三个内角是多少度？", ("70°", "110°", "250°", "10度"), "A"),
        # signs
        ("3×(4+5)等于多少？", ("27", "17", "12", "9"), "A"),
        ("求函数f(x)＝3x²－4x在x＝2处的导数", ("8", "4", "12", "2"), "A"),
        (r"计算 $C_5^2$ 的值", ("10", "20", "5", "7"), "A"),
        (r"计算定积分 $\int_0^4 (2x+3)\,dx$ 的值。", ("28", "20", "16", "12"), "A"),
        (r"求极限 $\lim_{x \to 2} \frac{x^2-5x+6}{x-2}$", ("-1", "1", "0", "5"), "A"),
        # the other ways to ask
        ("下列哪一项等于10？", ("C(5,2)", "P(5,2)", "20/2", "3^2"), "AC"),
        ("下列哪一项不等于10？", ("C(5,2)", "10/1", "20/2", "3^2"), "D"),
        ("设a为24与36的最大公约数，则2a+1是多少？", ("25", "145", "13", "24"), "A"),
        ("下列四项中，第二大的是哪一项？", ("2^3", "3^2", "√(36)", "7!/6!"), "A"),
        ("下列哪一项与C(5,2)相等？", ("C(5,3)", "C(5,2)", "2×5", "5^2"), "AC"),
        (
            "有人算得24与36的最大公约数是6，下列哪一项评价恰当？",
            ("算得对", "算错了，应为12", "计算有误，应为72", "算错了，应为4"),
            "B",
        ),
        (
            "甲说3×4是12；乙说2^3是6。谁说得对？",
            ("甲和乙都对", "只有甲对", "只有乙对", "甲和乙都错"),
            "B",
        ),
        # nothing is right
        ("方程3x+5=20的解是多少？", ("4", "15", "25/3", "-5"), ""),
    ],
)
def test_each_option_is_held_to_the_value_that_is_sought(question, options, letters):
    found = right(question, options)

    assert found is not None
    assert "".join(letter for letter, held in zip("ABCD", found, strict=True) if held) == letters


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("《沙乡年鉴》的首次发表年份是下列哪一项？", ("1964年", "1949年", "1980年", "1992年")),
        ("方程3x+5=20的解是多少？", ("5", "15", "25/3", "以上都不对")),
        ("方程3x+5=20x+y的解是多少？", FIVE),
        ("方程x^2-5x+6=0的解是多少？", FIVE),  # two
        ("x^2-5x+6的最大值是多少？", FIVE),  # none
        ("1/0等于多少？", FIVE),
        ("1/2x等于多少？", FIVE),
        ("小明有3个苹果，又买了2个，一共有几个？", FIVE),
        ("点(1,2)与点(2,4)的距离是多少？", FIVE),  # no rational number
        ("1972—1974年间签署的条约有几项？", FIVE),
    ],
)
def test_of_what_it_cannot_read_it_says_nothing(question, options):
    assert right(question, options) is None


def test_no_thing_is_sought_that_two_readers_understand_differently():
    told = ("x^2-6x+11的最小值", "24与36的最大公约数", "x=2时x+1的值", "首项为3、公差为4的等差数列的第10项")

    assert [value(sought) for sought in told] == [2, 12, 3, 39]
    assert len({pattern for pattern, _ in READERS}) == len(READERS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("得3×4=13", "3*4=13"),
        ("3×4=12，5+5=11。", "5+5=11"),
        ("x=15/3=6", "15/3=6"),
        ("f(2)=4+1=6", "4+1=6"),
        ("２×３＝７", "2*3=7"),
        ("1/3=0.34", "1/3=0.34"),
        ("C(5,2)=20", "C(5,2)=20"),
        (r"得$\frac{1}{2}+\frac{1}{3}=\frac{2}{5}$", "((1)/(2))+((1)/(3))=((2)/(5))"),
        ("2(3+4)=13", "2(3+4)=13"),
        ("√(16)=5", "√(16)=5"),
        ("|-3|=4", "|-3|=4"),
        ("50%=1/3", "50%=1/3"),
        # what holds
        ("3×4=12，x=15/3=5，2^10=1024，C(5,2)=10，5!=120，1/3=0.33，50%=1/2", None),
        # what is no equality between two numbers
        ("A=B，x+1=3，f(2)=7，17=2(mod 5)，101(2)=5", None),
        ("比例12:30=2:5，版本3.1.4=稳定版", None),
        ("7÷3=2余1，3×4=12万，2个-2=1，1,000+1=1,001", None),
        ("a!=3，1972—1974年", None),
        # what is not said to hold
        ("错在把3×4=13", None),
        ("假设3×4=13", None),
        ("3×4≠13", None),
    ],
)
def test_the_first_false_equality_of_a_text_is_found(text, found):
    assert false_equality(text) == found


HOSTILE = (
    "9^9^9^9",
    "(" * 10_000,
    "(" * 10_000 + "1" + ")" * 10_000,
    "-" * 50_000 + "1",
    "9" * 100_000,
    "1+" * 50_000 + "1",
    "1=" * 50_000 + "2",
    "100000000000!",
    "C(999999999,5)",
    "((2^4000)^4000)^4000",
    "1/(1-1)",
    "\\frac{" * 5_000,
    "x趋于0时((((x+1)^12)^12)^12)^12的极限",
    "x趋于0时sin(tan(x^7+sin(x)))/x+sin(x^5)*tan(x)/x的极限",
    "x=2时(((x^12)^12)^12)^12的值",
    "2^999999999除以7的余数",
    "1到999999999中3的倍数的个数",
    "999999999999999989的正约数个数",
    "方程x+y+z+w=999999的正整数解的个数",
    "__import__('os').system('exit 1')",
    "x.__class__.__mro__",
)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:20])
def test_a_hostile_text_neither_runs_nor_takes_long(text):
    right("1+1是多少？", ("1", "2", "3", "4"))
    before = time.process_time()

    right(f"{text}是多少？", ("1", "2", "3", "4"))
    right("1+1是多少？", (text, "2", "3", "4"))
    false_equality(f"得{text}=1")

    assert time.process_time() - before < 0.5
