"""Improve an item by what was said of it: the same question and options, and a chain that mends what is named."""

import re
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from datagen.teacher import answer, chains
from datagen.teacher.reasons import reason
from datagen.teacher.sheets import read
from schemas.record import Item


class Mend(Struct, frozen=True):
    """A part of the chain that is written anew, at full length, if the feedback speaks of it."""

    speaks: re.Pattern[str]
    says: str
    """What the adjustment tells of it."""


def improve(topic: str, item: Item, feedback: str, *, full: bool) -> Item:
    """Return the item with the answer that the sheet gives and a new chain, whole where the feedback finds it wanting.

    All of the chain is whole if the feedback names no part of it. Raises Fault unless the question is one of the
    topic's sheet and exactly one option is right.
    """
    sheet = read(topic)
    asked = answer.question(topic, item.question)
    at = answer.solve(sheet, asked, item.options)
    why = reason(sheet, asked, item.options, at)
    base, whole = (
        chains.write(item.question, item.options, at, why, Random(item.question), full=each) for each in (full, True)
    )
    named = [part for part, mend in MENDS.items() if mend.speaks.search(feedback)]
    done = [MENDS[part].says for part in named] or ["重新核对了各步的依据"]
    if item.answer == base.answer:
        done.append("结论不变")
    else:
        done.append(f"发现选项{item.answer}与资料不符，改为选项{base.answer}")
    return replace(
        base,
        **{part: getattr(whole, part) for part in named or MENDS},
        adjustment=f"复核时{'，'.join(done)}。",
    )


MENDS: dict[str, Mend] = {
    "think": Mend(re.compile("思考|背景|角度"), "补充了背景"),
    "steps": Mend(re.compile("步骤(?!过长)|逐项|其余选项|依据|事实|结论|不符"), "写明了依据，逐项核对了选项"),
    "reflection": Mend(re.compile("反思|中立|立场|视角|绝对"), "检查了表述是否中立"),
}
