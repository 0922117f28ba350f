"""Formulas in Chinese texts: brought into plain signs, read by a parser of this file, worked out exactly.

Nothing is ever evaluated as code, and what is larger than the limits below is Unreadable, so a hostile text can neither
run anything nor take long.
"""

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, isqrt, perm
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sympy import Expr, Poly, Symbol

MAX_FORMULA = 120  # characters
MAX_DIGITS = 18
MAX_DEPTH = 20  # brackets in one another
MAX_BITS = 4096  # of a number
MAX_DEGREE = 12  # of a polynomial


class Unreadable(Exception):
    """A formula that this file cannot read, or will not."""


class Node(NamedTuple):
    """A formula: a number, a name, or what is done with others."""

    op: str
    args: tuple["Node", ...] = ()
    number: Fraction = Fraction()
    name: str = ""


def plain(text: str) -> str:
    """Return a text with its formulas in plain signs: 3×4, $3 \\times 4$ and ３＊４ become 3*4; blanks go."""
    text = text.translate(_SIGNS)
    if "\\" in text or "$" in text or "{" in text:
        text = _latex(text)
    text = unicodedata.normalize("NFKC", text).translate(_MORE_SIGNS)
    return "".join(text.split())


def _latex(text: str) -> str:
    text = text.replace("\\left", "").replace("\\right", "").replace("\\displaystyle", "")
    text = re.sub(r"\\[()\[\],;:! ]|\$|\\q?quad", " ", text)
    text = re.sub(r"\\(?:text|mathrm|operatorname|mathbf|textbf)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)", r"((\1)/(\2))", text)
    text = re.sub(r"\\[dt]?frac", r"\\frac", text)
    for _ in range(8):  # as deep as formulas go, from the inside out
        before = text
        text = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\d?binom\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"C(\1,\2)", text)
        text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"√(\1)", text)
        text = re.sub(r"([CAP])_\{?(\d+)\}?\^\{?(\d+)\}?", r"\1(\2,\3)", text)
        text = re.sub(r"([\^_])\s*\{([^{}\\]*)\}", r"\1(\2)", text)
        if text == before:
            break
    for word, sign in _COMMANDS:
        text = text.replace(word, sign)
    return text


def number(formula: str) -> Fraction:
    """Return the rational number that a formula without letters comes to; Unreadable for what is none."""
    return worked_out(parse(formula))


@lru_cache(maxsize=4096)
def parse(formula: str) -> Node:
    """Return a formula in plain signs; Unreadable for what is none, or is read in two ways (1/2x), or is too long."""
    if not formula or len(formula) > MAX_FORMULA:
        raise Unreadable
    reader = _Reader(formula)
    node = reader.sum(0)
    if reader.rest:
        raise Unreadable
    return node


class _Reader:
    """Reads a formula from left to right."""

    def __init__(self, formula: str) -> None:
        self._tokens: list[str] = []
        at = 0
        while at < len(formula):
            found = _TOKEN.match(formula, at)
            if found is None:
                raise Unreadable
            self._tokens.append(found[0])
            at = found.end()
        self._at = 0

    @property
    def rest(self) -> bool:
        """Whether something is left."""
        return self._at < len(self._tokens)

    @property
    def next(self) -> str:
        """The next token, empty at the end."""
        return self._tokens[self._at] if self.rest else ""

    def take(self) -> str:
        """Return the next token and go on."""
        token = self.next
        self._at += 1
        return token

    def sum(self, depth: int) -> Node:
        """Terms with + and - between them."""
        if depth > MAX_DEPTH:
            raise Unreadable
        negative = False
        while self.next in ("+", "-"):
            negative ^= self.take() == "-"
        node = self.product(depth)
        node = Node("-", (node,)) if negative else node
        while self.next in ("+", "-"):
            op = self.take()
            term = self.product(depth)
            node = Node("+", (node, term if op == "+" else Node("-", (term,))))
        return node

    def product(self, depth: int) -> Node:
        """Factors with * and / or nothing between them; 1/2x is refused, since it is read in two ways."""
        node, divided = self.power(depth), False
        while self.next:
            if self.next in ("*", "/"):
                divided = self.take() == "/"
                negative = self.next == "-"
                if negative:
                    self.take()
                factor = self.power(depth)
                factor = Node("-", (factor,)) if negative else factor
                node = Node("/" if divided else "*", (node, factor))
            elif self.next in ("(", "√") or self.next.isalpha():
                if divided or (self.next == "(" and self._lone_number()):
                    raise Unreadable
                node = Node("*", (node, self.power(depth)))
            else:
                break
        return node

    def power(self, depth: int) -> Node:
        """A thing, perhaps raised to another."""
        node = self.thing(depth)
        while self.next in ("!", "%"):
            node = Node(self.take(), (node,))
        if self.next == "^":
            self.take()
            negative = self.next == "-"
            if negative:
                self.take()
            if depth >= MAX_DEPTH:
                raise Unreadable
            exponent = self.power(depth + 1)
            node = Node("^", (node, Node("-", (exponent,)) if negative else exponent))
        return node

    def thing(self, depth: int) -> Node:
        """A number, a name, a bracket or a function."""
        token = self.take()
        if token[:1].isdecimal():
            if len(token) > MAX_DIGITS:
                raise Unreadable
            return Node("number", number=Fraction(token))
        if token in ("(", "|"):
            node = self.sum(depth + 1)
            if self.take() != (")" if token == "(" else "|"):
                raise Unreadable
            return node if token == "(" else Node("abs", (node,))
        if token in ("C", "A", "P"):
            if self.take() != "(":
                raise Unreadable
            above = self.sum(depth + 1)
            if self.take() != ",":
                raise Unreadable
            below = self.sum(depth + 1)
            if self.take() != ")":
                raise Unreadable
            return Node(token, (above, below))
        if token in ("√", "sqrt"):
            return Node("sqrt", (self.thing(depth + 1),))
        if token in ("sin", "cos", "tan", "ln"):
            if self.next != "(":
                factor = self.thing(depth + 1)  # sin3x is sin(3x)
                while self.next in _VARIABLES and self.next:
                    factor = Node("*", (factor, self.thing(depth + 1)))
                return Node(token, (factor,))
            return Node(token, (self.thing(depth + 1),))
        if token in _VARIABLES and token:
            return Node("name", name=token)
        raise Unreadable

    def _lone_number(self) -> bool:
        """Whether a number in brackets follows another, as the base of a notation does: 101(2)."""
        before, after = self._tokens[self._at - 1], self._tokens[self._at + 1 : self._at + 3]
        return before[0].isdecimal() and len(after) == 2 and after[0].isdecimal() and after[1] == ")"


def worked_out(node: Node, **given: Fraction) -> Fraction:
    """The rational number that a formula comes to where its letters are these."""
    if node.op == "number":
        return node.number
    if node.op == "name" and node.name in given:
        return given[node.name]
    found = [worked_out(arg, **given) for arg in node.args]
    match node.op, found:
        case "+", [a, b]:
            value = a + b
        case "-", [a]:
            value = -a
        case "*", [a, b]:
            value = a * b
        case "/", [a, b]:
            value = a / b
        case "^", [a, b]:
            value = _power(a, b)
        case "%", [a]:
            value = a / 100
        case "abs", [a]:
            value = abs(a)
        case "sqrt", [a]:
            value = root(a)
        case "!", [a]:
            value = Fraction(factorial(whole_number(a, 300)))
        case "C" | "A" | "P", [a, b]:
            n, k = whole_number(a, 600), whole_number(b, 600)
            if k > n:
                raise Unreadable  # some write the smaller number first
            value = Fraction((comb if node.op == "C" else perm)(n, k))
        case _:
            raise Unreadable
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Unreadable
    return value


def _power(a: Fraction, b: Fraction) -> Fraction:
    if b == Fraction(1, 2):
        return root(a)
    size = max(a.numerator.bit_length(), a.denominator.bit_length())
    if b.denominator != 1 or size * abs(b.numerator) > MAX_BITS:
        raise Unreadable
    return Fraction(a ** int(b))


def root(a: Fraction) -> Fraction:
    """Return the square root of a number whose root is rational."""
    if a < 0:
        raise Unreadable
    above, below = isqrt(a.numerator), isqrt(a.denominator)
    if above * above != a.numerator or below * below != a.denominator:
        raise Unreadable
    return Fraction(above, below)


def whole_number(value: Fraction, most: int) -> int:
    """Return a number as an integer from 0 to a bound."""
    if value.denominator != 1 or not 0 <= value <= most:
        raise Unreadable
    return int(value)


def expression(node: Node) -> "Expr":
    """A formula with letters as sympy has it."""
    import sympy

    if _degree(node) > MAX_DEGREE:
        raise Unreadable
    if node.op == "number":
        return sympy.Rational(node.number.numerator, node.number.denominator)
    if node.op == "name":
        return sympy.Symbol(node.name)
    if not names(node):
        value = worked_out(node)
        return sympy.Rational(value.numerator, value.denominator)
    found = [expression(arg) for arg in node.args]
    match node.op, found:
        case "+", [a, b]:
            return a + b
        case "-", [a]:
            return -a
        case "*", [a, b]:
            return a * b
        case "/", [a, b]:
            return a / b
        case "^", [a, b]:
            return a**b
        case ("sin" | "cos" | "tan") as name, [a]:
            return getattr(sympy, name)(a)
        case "ln", [a]:
            return sympy.log(a)
        case _:
            raise Unreadable


@lru_cache(maxsize=4096)
def _degree(node: Node) -> int:
    """How high a formula's powers may grow."""
    inner = [_degree(arg) for arg in node.args]
    match node.op:
        case "name":
            return 1
        case "*" | "/":
            return sum(inner)
        case "^":
            if not inner[0]:
                return inner[1] * (MAX_DEGREE + 1)  # 2^x is none of ours
            size = worked_out(node.args[1])
            return inner[0] * whole_number(size, MAX_DEGREE)
        case _:
            return max(inner, default=0)


@lru_cache(maxsize=4096)
def names(node: Node) -> frozenset[str]:
    """Return the letters of a formula."""
    return frozenset({node.name} if node.op == "name" else ()).union(*map(names, node.args))


def polynomial(expr: "Expr", *letters: "Symbol") -> "Poly":
    """A polynomial in these letters with rational coefficients."""
    import sympy

    try:
        made = sympy.Poly(expr, *letters)
    except sympy.PolynomialError:
        raise Unreadable from None
    if not (made.domain.is_ZZ or made.domain.is_QQ):
        raise Unreadable
    return made


_SIGNS = str.maketrans(
    {
        "²": "^2",
        "³": "^3",
        "⁴": "^4",
        "⁵": "^5",
        "！": "。",
        "×": "*",
        "·": "*",
        "⋅": "*",
        "÷": "/",
        "…": "...",
        "−": "-",
    }
    | {"→": "趋于", "–": "-", "—": "-", "∶": ":", "°": "度"}
)
_MORE_SIGNS = str.maketrans({"⁄": "/", "，": ",", "“": "", "”": "", '"': ""})
_COMMANDS = (
    ("\\times", "*"), ("\\cdots", "..."), ("\\cdot", "*"), ("\\ldots", "..."), ("\\dots", "..."), ("\\div", "/"),
    ("\\sqrt", "√"), ("\\int", "∫"), ("\\lim", "lim"), ("\\sin", "sin"), ("\\cos", "cos"), ("\\tan", "tan"),
    ("\\ln", "ln"), ("\\to", "趋于"), ("\\rightarrow", "趋于"), ("\\circ", "度"),
    ("^度", "度"), ("\\%", "%"), ("\\pi", "π"),
    ("{", "("), ("}", ")"),
)  # fmt: skip
_TOKEN = re.compile(r"\d+(?:\.\d+)?|sqrt|sin|cos|tan|ln|[a-z]|[CAP](?=\()|[-+*/^()!%|,√]")
_VARIABLES = "abcdefghijklmnopqrstuvwxyz"
