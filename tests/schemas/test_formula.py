"""Formulas: the ways they are written, what they come to, and what is refused."""

from fractions import Fraction

import pytest

from schemas.formula import Unreadable, number, plain


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("３×４÷２－１", "3*4/2-1"),
        ("x² + y³", "x^2+y^3"),
        (r"$\frac{x+1}{2}$", "((x+1)/(2))"),
        (r"$\frac12 \cdot \dfrac{3}{\sqrt{4}}$", "((1)/(2))*((3)/(√(4)))"),
        (r"\(x^{12}\)", "x^(12)"),
        (r"$\binom{5}{2}$，$C_{5}^{2}$", "C(5,2),C(5,2)"),
        ("30°", "30度"),
    ],
)
def test_a_formula_is_brought_into_plain_signs(text, signs):
    assert plain(text) == signs


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("1+2*3", 7),
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("2^-1", Fraction(1, 2)),
        ("2^3^2", 512),
        ("8/4/2", 1),
        ("2(3+4)", 14),
        ("(1+2)(3+4)", 21),
        ("0.25", Fraction(1, 4)),
        ("5!/3!", 20),
        ("C(5,2)+A(5,2)", 30),
        ("√(9)+|2-5|", 6),
        ("50%", Fraction(1, 2)),
    ],
)
def test_a_formula_comes_to_a_number(formula, value):
    assert number(formula) == value


REFUSED = """
x 1/2(3) 1/2x 1+ (1 1) √(2) 101(2) 1..2 os.system 9^9^9 301! 1,2 C(2,5)
"""


@pytest.mark.parametrize("formula", ["", *REFUSED.split()])
def test_what_is_no_number_or_is_read_in_two_ways_is_refused(formula):
    with pytest.raises(Unreadable):
        number(formula)
