"""A bank of replies with planted faults, and the truth about each: what the benchmark of curation is fed.

Row n depends on the seed and on n alone, so rows are made as a stream, by any number of processes and again where the
truth about one is wanted. Chains have about 1.3 KB of text put together from word lists, frames and the fact sheets of
the embedded teacher, 80 % Chinese, 20 % English. What they say is nonsense; how it is spelt, and how little two of them
have in common, is what counts.
"""

import csv
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import permutations
from multiprocessing import get_context
from pathlib import Path
from random import Random

import msgspec
from msgspec import Struct
from ruamel.yaml import YAML

from schemas.chain import write
from schemas.record import LETTERS, Item, Response

ROOT = Path(__file__).parents[1]
SEED = 7
BLOCK = 2000  # rows made in one go
ENGLISH = 0.2
SYMBOL = 0.02  # share of good chains with an escaped & or <
HELD = 10_000  # questions of the test file
PLANTED = 500  # most of them that the bank holds

DUPLICATES = ("copy", "width", "light", "heavy", "shuffled", "reasoned")
"""The row again under another id · in other width, punctuation and spaces · with 1 or 2 characters edited · with 3 to
5 % of them edited · its options in another order and the letters of its chain with them · the question with another
chain."""
SIBLINGS = ("year", "year, same chain", "year, same answer", "not", "not, same chain")
"""Questions that differ in a year or a 不 and so are others: with another answer and chain, but where it is said."""
MALFORMED = ("bare &", "bare <", "fence", "around", "full-width", "no end tag", "cut off", "not XML")
MENDABLE = MALFORMED[:6]
SHARES: tuple[tuple[tuple[str, ...], float], ...] = (
    (DUPLICATES, 0.1),
    (("conflict",), 0.005),
    (SIBLINGS, 0.005),
    (MALFORMED, 0.05),
)
FIRST = 20  # rows before the first that has an original
WORLD = 1 << 40  # numbers from here on are in no bank

Order = tuple[int, ...]
"""For each place A to D, the option that stands there; the first option of a draft is the right one."""


class Truth(Struct, frozen=True):
    """What is special about a row."""

    id: str
    kind: str
    of: str | None
    """The id of the row it was made from."""


class Question(Struct, frozen=True):
    """A question before its options have an order; YEAR and NOT stand in the stem."""

    stem: str
    options: tuple[str, ...]
    year: int
    english: bool


class Chain(Struct, frozen=True):
    """A chain before its letters are known; a mark of MARKS stands for each."""

    think: str
    steps: tuple[str, ...]
    reflection: str
    adjustment: str | None


YEAR, NOT, RIGHT = "\x01", "\x02", "\x07"
MARKS = "\x03\x04\x05\x06"


def identity(number: int) -> str:
    """Return the id of a row."""
    return hashlib.blake2b(f"{SEED}:{number}".encode(), digest_size=8).hexdigest()


def kind(number: int) -> str:
    """Return what a row is: `original`, or one of the kinds above."""
    left = _share(number, "kind")
    if number >= FIRST:
        for kinds, share in SHARES:
            if left < share:
                return kinds[int(left / share * len(kinds))]
            left -= share
    return "original"


def original(number: int) -> int | None:
    """Return the row that another was made from: an earlier one, at a distance of any order of magnitude."""
    if kind(number) in ("original", *MALFORMED):
        return None
    random = _random(number, "original")
    while True:
        found = number - int(math.exp(random.random() * math.log(number)))
        if kind(found) == "original":
            return found


def item(number: int) -> Item:
    """Return what a row's reply holds, or would hold if it were whole."""
    what, of = kind(number), original(number)
    random = _random(number, "item")
    if of is None:
        asked = question(number)
        symbol = {"bare &": 0, "bare <": 1}.get(what)
        return put(asked, chain(number, asked, symbol), _order(random))
    asked, order = question(of), _order(_random(of, "item"))
    argued = chain(of, asked)
    if what == "copy":
        return put(asked, argued, order)
    if what == "width":
        return _each(put(asked, argued, order), partial(widened, random=random))
    if what in ("light", "heavy"):
        return edited(put(asked, argued, order), random, what, asked.english)
    if what == "shuffled":
        return put(asked, argued, random.choice([other for other in ORDERS if other != order]))
    if what == "reasoned":
        return put(asked, chain(number, asked), order)
    if what == "conflict":
        return put(asked, chain(number, asked), random.choice((order, _order(random))), right=random.randint(1, 3))
    return put(
        asked,
        argued if what.endswith("same chain") else chain(number, asked),
        order,
        right=0 if what.endswith("same answer") else random.randint(1, 3),
        later=random.randint(1, 9) if what.startswith("year") else 0,
        negated=what.startswith("not"),
    )


def question(number: int) -> Question:
    """Return the question of an original."""
    english = _share(number, "language") < ENGLISH
    random = _random(number, "question")
    words = EN if english else ZH
    options: list[str] = []
    while len(options) < 4:
        option = _fill(random, words.options)
        if option not in options:
            options.append(option)
    return Question(_fill(random, words.stems), tuple(options), random.randint(1951, 2014), english)


def chain(number: int, asked: Question, symbol: int | None = None) -> Chain:
    """Return a chain for a question; `symbol` names what has to be escaped in it."""
    random = _random(number, "chain")
    words = EN if asked.english else ZH
    if symbol is None and random.random() < SYMBOL:
        symbol = random.randrange(2)
    symbols = [words.symbols[symbol]] if symbol is not None else []

    def text(clauses: int, *more: str) -> str:
        made = [_fill(random, words.frames) for _ in range(clauses)]
        for clause in more:
            made.insert(random.randint(0, len(made)), clause)
        return words.join(made, random)

    count = random.randint(3, 4)
    steps = [text(words.clauses // count, random.choice(words.of_option) % MARKS[at % 4]) for at in range(count)]
    steps[-1] += random.choice(words.end) % MARKS[0]
    return Chain(
        think=text(words.clauses // 3, random.choice(words.about), random.choice(words.stock), *symbols),
        steps=tuple(steps),
        reflection=text(words.clauses // 4, *random.sample(words.stock, 2)),
        adjustment=text(words.clauses // 6) if random.random() < 0.1 else None,
    )


def put(asked: Question, argued: Chain, order: Order, right: int = 0, later: int = 0, negated: bool = False) -> Item:
    """Return a question with its options in an order, another of them the right one if so told, and its chain."""
    letters = [LETTERS[order.index(option)] for option in range(4)]
    letters[0], letters[right] = letters[right], letters[0]
    year = str(asked.year + later)
    stem = asked.stem.replace(YEAR, year).replace(NOT, (EN if asked.english else ZH).no if negated else "")
    texts = "\0".join((argued.think, argued.reflection, argued.adjustment or "", *argued.steps))
    for mark, word in ((YEAR, year), (RIGHT, asked.options[right]), *zip(MARKS, letters, strict=True)):
        texts = texts.replace(mark, word)
    think, reflection, adjustment, *steps = texts.split("\0")
    return Item(
        question=stem,
        options=tuple(asked.options[option] for option in order),  # type: ignore[arg-type]  # four of four
        think=think,
        steps=tuple(steps),
        reflection=reflection,
        adjustment=adjustment or None,
        answer=letters[0],
    )


def widened(text: str, random: Random) -> str:
    """Return a text in other width, punctuation and spaces."""
    for one, other in random.sample(WIDTHS, 5):
        text = text.replace(one, other)
    if len(text) > 1:
        at = random.randrange(1, len(text))
        # A space inside a word of letters would make two of it; between Chinese characters it says nothing.
        text = text if text[at].isascii() else f"{text[:at]} {text[at:]}"
    return text.strip()


def edited(item: Item, random: Random, how: str, english: bool) -> Item:
    """Return an item with characters replaced, put in and taken out, wherever no other question comes of it."""
    texts = [item.question, *item.options, item.think, *item.steps, item.reflection, item.adjustment or ""]
    characters = list("\0".join(texts))
    edits = random.randint(1, 2) if how == "light" else round(len(characters) * random.uniform(0.03, 0.05))
    letters = (EN if english else ZH).letters
    free = [at for at, character in enumerate(characters) if character not in UNTOUCHED]
    for at in random.sample(free, edits):
        which, letter = random.random(), random.choice(letters)
        characters[at] = letter if which < 0.6 else characters[at] + letter if which < 0.8 else ""
    asked, a, b, c, d, think, *steps, reflection, adjustment = "".join(characters).split("\0")
    return Item(
        question=asked,
        options=(a, b, c, d),
        think=think,
        steps=tuple(steps),
        reflection=reflection,
        adjustment=adjustment or None,
        answer=item.answer,
    )


def content(number: int, whole: Item) -> str:
    """Return the reply of a row as it came."""
    text, what = write(whole), kind(number)
    random = _random(number, "content")
    match what:
        case "bare &":
            return text.replace("&amp;", "&")
        case "bare <":
            return text.replace("&lt;", "<")
        case "fence":
            return f"```xml\n{text}\n```"
        case "around":
            return f"{random.choice(BEFORE)}\n{text}\n{random.choice(AFTER)}"
        case "full-width":
            wide = chr(ord(whole.answer) + 0xFEE0)
            return text.replace(f"<output>{whole.answer}<", f"<output>{random.choice(('%s', '（%s）')) % wide}<")
        case "no end tag":
            return text.replace(random.choice(("</step>", "</think>", "</C>", "</reflection>", "</question>")), "", 1)
        case "cut off":
            return text[: random.randint(len(text) // 4, text.index("<output>"))]
        case "not XML":
            return random.choice(BROKEN)(text)
    return text


def responses(numbers: range, topic: str) -> Iterator[tuple[Response, Truth | None]]:
    """Yield rows and what is special about them."""
    for number in numbers:
        of, what = original(number), kind(number)
        random = _random(number, "cell")
        response = Response(
            id=identity(number),
            topic=topic,
            difficulty=random.choice(("basic", "intermediate", "advanced")),
            type=random.choice(("factual", "conceptual", "analytical", "comparative", "evaluative")),
            sample=number,
            round=0,
            teacher="corpus @ benchmark",
            content=content(number, item(number)),
            fault=None,
        )
        plain = what == "original"
        yield response, None if plain else Truth(response.id, what, None if of is None else identity(of))


def held(rows: int) -> Iterator[tuple[tuple[str, ...], Truth | None]]:
    """Yield the rows of a test file (id, question, options) and, of those that the bank holds, which it is."""
    planted = max(1, min(PLANTED, rows // 100))
    every = HELD // planted
    for place in range(HELD):
        random = _random(place, "held")
        number = WORLD + place
        what = random.choice(("copy", "width", "shuffled"))
        if place % every == 0 and place // every < planted:
            number = random.randrange(rows)
            while kind(number) != "original":
                number = random.randrange(rows)
        asked = question(number)
        found = put(asked, NOTHING, _order(random if what == "shuffled" else _random(number, "item")))
        if what == "width":
            found = _each(found, partial(widened, random=random))
        id_ = f"held{place}"
        truth = Truth(id_, what, identity(number)) if number < WORLD else None
        yield (id_, found.question, *found.options), truth


class Corpus(Struct, frozen=True):
    """A bank in a folder."""

    folder: Path
    rows: int

    @property
    def responses(self) -> Path:
        """A file of Responses for each topic."""
        return self.folder / "responses"

    @property
    def held(self) -> Path:
        """The test file."""
        return self.folder / "held.csv"

    def truth(self) -> dict[str, Truth]:
        """Return what is special, by the id of the row."""
        return _truths(self.folder / "truth.jsonl")

    def planted(self) -> dict[str, Truth]:
        """Return what the test file shares with the bank, by the id in the bank."""
        return {truth.of: truth for truth in _truths(self.folder / "held.jsonl").values() if truth.of}


def corpus(folder: Path, rows: int, topics: Sequence[str]) -> Corpus:
    """Return a bank of so many rows, equal parts of every topic; made if this version of it is not there yet."""
    sources = b"".join(Path(__file__).with_suffix(suffix).read_bytes() for suffix in (".py", ".yaml"))
    version = hashlib.blake2b(sources + " ".join(topics).encode(), digest_size=4).hexdigest()
    found = Corpus(folder / f"curation-{rows}-{version}", rows)
    if found.folder.exists():
        return found
    making = found.folder.with_suffix(f".{os.getpid()}")
    bounds = [rows * at // len(topics) for at in range(len(topics) + 1)]
    blocks = [
        (topic, range(start, min(start + BLOCK, end)))
        for topic, begin, end in zip(topics, bounds, bounds[1:], strict=False)
        for start in range(begin, end, BLOCK)
    ]
    try:
        (making / "responses").mkdir(parents=True)
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool, open(making / "truth.jsonl", "wb") as truth:
            for (topic, _), (lines, special) in zip(blocks, pool.map(_block, blocks), strict=True):
                with open(making / "responses" / f"{topic}.jsonl", "ab") as file:
                    file.write(lines)
                truth.write(special)
        with (
            open(making / "held.csv", "w", encoding="utf-8", newline="") as file,
            open(making / "held.jsonl", "wb") as at,
        ):
            table = csv.writer(file)
            table.writerow(("id", "question", *(f"option_{letter}" for letter in LETTERS)))
            for row, planted in held(rows):
                table.writerow(row)
                if planted:
                    at.write(msgspec.json.encode(planted) + b"\n")
        making.rename(found.folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return found


def _block(block: tuple[str, range]) -> tuple[bytes, bytes]:
    topic, numbers = block
    encode = msgspec.json.Encoder().encode
    made = list(responses(numbers, topic))
    lines = b"".join(encode(response) + b"\n" for response, _ in made)
    return lines, b"".join(encode(truth) + b"\n" for _, truth in made if truth)


def _truths(path: Path) -> dict[str, Truth]:
    with open(path, "rb") as file:
        return {truth.id: truth for truth in map(msgspec.json.Decoder(Truth).decode, file)}


def _random(number: int, purpose: str) -> Random:
    return Random((number << 64) | (PURPOSES[purpose] << 32) | SEED)


def _share(number: int, purpose: str) -> float:
    """Return a number from 0 to 1 that belongs to the row (splitmix64)."""
    mixed = (number * 8 + PURPOSES[purpose] + (SEED << 50)) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) / 2**64


def _order(random: Random) -> Order:
    return random.choice(ORDERS)


def _each(item: Item, change: Callable[[str], str]) -> Item:
    return Item(
        question=change(item.question),
        options=tuple(map(change, item.options)),  # type: ignore[arg-type]  # four of four
        think=change(item.think),
        steps=tuple(map(change, item.steps)),
        reflection=change(item.reflection),
        adjustment=change(item.adjustment) if item.adjustment else None,
        answer=item.answer,
    )


ORDERS: tuple[Order, ...] = tuple(permutations(range(4)))
NOTHING = Chain("", (), "", None)
PURPOSES: Mapping[str, int] = {
    name: at for at, name in enumerate(("kind", "language", "original", "item", "question", "chain", "content", "held"))
} | {"cell": 8}
WIDTHS = (
    *(("，", ","), ("。", "."), ("？", "?"), ("；", "; "), ("、", "，"), ("《", " 《"), ("的", " 的"), ("年", " 年")),
    *((", ", "，"), (". ", "．"), ("?", "？"), ("the ", "ｔｈｅ  "), ("of", "ｏｆ"), (" and ", "  and ")),
    *(("1", "１"), ("2", "２"), ("9", "９")),
)
UNTOUCHED = frozenset("\0ABCD0123456789&<>不非未无没否勿莫误错除一二三四五六七八九十百千万亿")
BEFORE = ("好的，以下是按要求写的题目：", "Here is the question:", "当然可以。\n", "题目如下")
AFTER = ("希望对您有帮助！", "以上题目仅供参考。", "Let me know if you need another one.", "如需调整请告诉我")


def _crossed(text: str) -> str:
    return text.replace("</think>\n<reasoning>", "<reasoning></think>\n", 1)


def _swapped(text: str) -> str:
    return text.replace("</A>", "\0", 1).replace("</B>", "</A>", 1).replace("\0", "</B>", 1)


def _markdown(text: str) -> str:
    return "**题目**\n" + text.replace("<", "- ").replace(">", "：")


BROKEN = (_crossed, _swapped, _markdown)


class Frame(Struct, frozen=True):
    """A text with places for words."""

    text: str
    pools: tuple[Sequence[str], ...]
    """What may stand at each place."""


class Words(Struct, frozen=True):
    """What a language's texts are made of."""

    frames: tuple[Frame, ...]
    stems: tuple[Frame, ...]
    options: tuple[Frame, ...]
    clauses: int
    """Of a chain."""
    stock: tuple[str, ...]
    """Clauses without places."""
    about: tuple[str, ...]
    of_option: tuple[str, ...]
    end: tuple[str, ...]
    symbols: tuple[str, ...]
    no: str
    joints: tuple[str, ...]
    """What stands between two clauses; the more often here, the more often there."""
    letters: str
    """That an edit may put in."""

    def join(self, clauses: Sequence[str], random: Random) -> str:
        """Return a text made of clauses."""
        out: list[str] = []
        begins = True
        for clause in clauses:
            joint = self.joints[int(random.random() * len(self.joints))]
            out += [clause[0].upper() + clause[1:] if begins else clause, joint]
            begins = joint[0] == "."
        out[-1] = self.joints[0].rstrip()
        return "".join(out)


def _words(language: str) -> Words:
    """Return what corpus.yaml says of a language."""
    section = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))[language]
    pools = {name: tuple(words.split()) for name, words in section["words"].items()}
    pools |= {
        "e": _names(),
        "y": tuple(map(str, range(1950, 2024))),
        "d": tuple(map(str, range(2, 99))),
    }

    def marked(name: str) -> tuple[str, ...]:
        texts = [
            str(text).replace("{year}", YEAR).replace("{not}", NOT).replace("{right}", RIGHT) for text in section[name]
        ]
        return tuple(text.replace("{letter}", "%s") for text in texts)

    def frames(name: str) -> tuple[Frame, ...]:
        pieces = [re.split(r"\{(\w)\}", text.replace("%", "%%")) for text in marked(name)]
        return tuple(Frame("%s".join(piece[::2]), tuple(pools[pool] for pool in piece[1::2])) for piece in pieces)

    return Words(
        frames=frames("frames"),
        stems=frames("stems"),
        options=frames("options"),
        clauses=section["clauses"],
        stock=marked("stock"),
        about=marked("about"),
        of_option=marked("of_option"),
        end=marked("end"),
        symbols=tuple(section["symbols"]),
        no=section["not"],
        joints=tuple(section["joints"]),
        letters="".join(sorted(set("".join(pools["n"] + pools["v"])) - UNTOUCHED)),
    )


def _fill(random: Random, frames: Sequence[Frame]) -> str:
    draw = random.random
    frame = frames[int(draw() * len(frames))]
    return frame.text % tuple([pool[int(draw() * len(pool))] for pool in frame.pools])


@cache
def _names() -> tuple[str, ...]:
    """Return the names of the fact sheets that hold no letter."""
    found: list[str] = []
    for path in sorted((ROOT / "datagen/teacher/facts").glob("*.yaml")):
        for class_ in YAML(typ="safe").load(path)["classes"].values():
            found += [str(entity["name"]) for entity in class_["entities"]]
    return tuple(name for name in dict.fromkeys(found) if not re.search(r"[A-Za-z]", name))


ZH, EN = _words("zh"), _words("en")
