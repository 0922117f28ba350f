"""What the embedded teacher replies about mathematics, by the kind of request; a translation needs no mathematics."""

from datagen.teacher.mathematics import about
from datagen.teacher.mathematics.compose import TOPICS, compose
from datagen.teacher.replies import Asked, Reply, answered, feedback, item_of, judged, shown, wish
from schemas.chain import write


def _write(wanted: Asked, text: str, seed: int) -> str:
    return write(compose(wanted.topic, wanted.difficulty, wanted.type, seed, full=wanted.chain == "full"))


def _verify(wanted: Asked, text: str, seed: int) -> str:
    return answered(about.answered(*shown(text)))


def _judge(wanted: Asked, text: str, seed: int) -> str:
    return judged(about.judge(wanted.difficulty, item_of(text)))


def _improve(wanted: Asked, text: str, seed: int) -> str:
    return write(about.improve(item_of(text), feedback(text), full=wanted.chain == "full"))


def _vary(wanted: Asked, text: str, seed: int) -> str:
    return write(about.vary(item_of(text), wish(wanted, seed)))


def _contrast(wanted: Asked, text: str, seed: int) -> str:
    return write(about.contrast(item_of(text), wanted.contrast, seed, full=wanted.chain == "full"))


REPLIES: dict[str, Reply] = {
    "write": _write,
    "verify": _verify,
    "judge": _judge,
    "improve": _improve,
    "vary": _vary,
    "contrast": _contrast,
}
MATHEMATICS = dict.fromkeys(TOPICS, REPLIES)
"""Who replies for each topic of mathematics."""
