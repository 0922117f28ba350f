"""Write a question of mathematics for a cell of the grid: a form draws a problem, its options are shuffled."""

from contextlib import suppress
from fractions import Fraction
from random import Random

from datagen.teacher.mathematics import forms
from datagen.teacher.mathematics.forms import FAMILIES, FORMS, Draft
from schemas.faults import Fault
from schemas.record import LETTERS, Item, Options

SAMPLES = 2**20  # a request's seed is round * SAMPLES + sample
TOPICS = tuple(FAMILIES)


def compose(topic: str, difficulty: str, type: str, seed: int, *, full: bool) -> Item:
    """Return the question of a cell with this seed, the same for the same arguments.

    `full` writes the whole chain of thought, otherwise each part is a sentence or less. Raises Fault for a cell that
    has no form.
    """
    taking_turns = FORMS.get((type, difficulty))
    if taking_turns is None:
        raise Fault(f"no form for type '{type}' at difficulty '{difficulty}'")
    # Python seeds from a string by SHA-512, so draws are the same on every machine and in every process.
    rng, number = Random(f"{topic}/{difficulty}/{type}/{seed}"), seed % SAMPLES
    cell = forms.cell(topic, difficulty, rng, number)
    families = len(cell.families)
    return write(taking_turns[number // families % len(taking_turns)](cell), rng, full=full)


def write(draft: Draft, rng: Random, *, full: bool) -> Item:
    """Return a question with its options and its chain: numbers from small to large, else as the generator draws."""
    order = [draft.right, *(option for option, _ in draft.wrong)]
    rng.shuffle(order)
    with suppress(ValueError):
        order.sort(key=Fraction)
    a, b, c, d = order
    return chain(draft, (a, b, c, d), full=full)


def chain(draft: Draft, options: Options, *, full: bool) -> Item:
    """Return a question with its options in this order and a whole chain or a short one."""
    return (_full if full else _short)(draft, options, dict(draft.wrong))


def _short(draft: Draft, options: Options, against: dict[str, str]) -> Item:
    """A sentence a part: the steps, the option they lead to, its letter after it, the mistakes behind the others."""
    letter = LETTERS[options.index(draft.right)]
    return Item(
        question=draft.stem,
        options=options,
        think=f"本题考查{draft.about}。",
        steps=(*draft.steps, f"{draft.verdict}{draft.right}（{letter}）"),
        reflection="，".join(f"选项{at}{against[option]}" for at, option in _others(options, against)) + "。",
        adjustment=None,
        answer=letter,
    )


def _others(options: Options, against: dict[str, str]) -> list[tuple[str, str]]:
    return [(at, option) for at, option in zip(LETTERS, options, strict=True) if option in against]


def _full(draft: Draft, options: Options, against: dict[str, str]) -> Item:
    """The whole chain: what is sought, the steps, a look at every option, a check of calculation and wording."""
    letter = LETTERS[options.index(draft.right)]
    looks = (
        f"核对选项{at}：{against[option]}，不符合题意。"
        if option in against
        else f"核对选项{at}：与计算一致，符合题意。"
        for at, option in zip(LETTERS, options, strict=True)
    )
    return Item(
        question=draft.stem,
        options=options,
        think=f"这道题考查{draft.about}。先不看选项，由题目给出的条件逐步计算，再与四个选项比对，并想一想其余各项错在哪里。",
        steps=(
            f"明确问题：{draft.stem}",
            *(f"计算：{step}。" for step in draft.steps),
            *looks,
            f"得出结论：{draft.verdict}{draft.right}，因此选{letter}。",
        ),
        reflection="回头检查：各步的等式都重新算过，结论只由题目的条件得出；其余选项各有具体的错误。表述客观中立，没有多余的断语。",
        adjustment=None,
        answer=letter,
    )
