"""Chains of thought: the reasons for an answer, written out with the letters of the options."""

from collections.abc import Sequence
from random import Random

from datagen.teacher.reasons import LOOKS, Reasons
from schemas.record import LETTERS, Item, Options


def write(
    question: str,
    options: Options,
    at: int,
    why: Reasons,
    rng: Random,
    wrong: Sequence[str] | None = None,
    *,
    full: bool,
) -> Item:
    """Return the question with its answer, the option at this place, and a whole chain or a short one.

    What the generator leaves open is how a whole chain begins and which of the `wrong` options, by default in the
    order of their letters, it calls easily mistaken.
    """
    return _full(question, options, at, why, rng, wrong) if full else _short(question, options, at, why)


def _short(question: str, options: Options, at: int, why: Reasons) -> Item:
    """A sentence a part: the facts, then the option they lead to, its letter after it."""
    letter = LETTERS[at]
    looks = [f"{look}（{LETTERS[n]}）" for n, look in enumerate(why.looks)]
    facts = [step for part in why.short or why.evidence for step in (looks if part == LOOKS else (part,))]
    return Item(
        question=question,
        options=options,
        think=f"本题问{why.about}。",
        steps=(*facts, f"{why.verdict}{why.settled or options[at]}（{letter}）"),
        reflection="只依据资料，未作立场评价。",
        adjustment=None,
        answer=letter,
    )


def _full(question: str, options: Options, at: int, why: Reasons, rng: Random, wrong: Sequence[str] | None) -> Item:
    """The whole chain: first thoughts, numbered steps over every option, a check on fact and neutrality."""
    letter = LETTERS[at]
    opening = rng.choice(
        (
            f"这道题考查的是{why.about}。先不看选项，回忆能够查证的资料，再逐项比对。",
            f"题目的关键在于{why.about}。我需要区分“印象”与“有出处的事实”，以资料为准。",
            f"先弄清题意：题目要确定的是{why.about}。有把握的事实作为依据，其余选项逐一核对。",
        )
    )
    background = "相关的背景事实有：" + "；".join(dict.fromkeys(why.evidence)) + "。"
    checks = (
        f"核对选项{LETTERS[n]}：{note}，{'符合题意' if n == at else '不符合题意'}。" for n, note in enumerate(why.notes)
    )
    steps = (
        f"明确问题：{question}需要判断的是{why.about}。",
        *(f"列出依据：{fact}。" for fact in why.evidence),
        *checks,
        f"得出结论：{why.verdict}{options[at]}，因此选{letter}。",
    )
    runner_up = rng.choice(wrong or [option for n, option in enumerate(options) if n != at])
    reflection = (
        f"回头检查：结论由上面列出的资料直接得出，没有借助猜测；选项{LETTERS[options.index(runner_up)]}与正确选项属于同一类，"
        "容易混淆，但与资料不符。表述上只陈述可查证的事实，没有使用褒贬用语，也没有偏向任何一方的立场，符合客观中立的要求。"
    )
    adjustment = (
        f"起初只核对了最像的一项；补充核对其余各项之后，理由更完整，结论不变，仍选{letter}。"
        if why.short or len(why.evidence) > 2
        else None
    )
    return Item(
        question=question,
        options=options,
        think=opening + background,
        steps=steps,
        reflection=reflection,
        adjustment=adjustment,
        answer=letter,
    )
