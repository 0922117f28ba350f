"""Write a question for a cell of the grid: its form draws it, its options are shuffled, its chain gives the reasons."""

from random import Random

from datagen.teacher import answer, chains
from datagen.teacher.forms import FORMS, Draw
from datagen.teacher.reasons import reason
from datagen.teacher.sheets import read
from schemas.faults import Fault
from schemas.record import Item, Options

SAMPLES = 2**20  # a request's seed is round * SAMPLES + sample


def compose(topic: str, difficulty: str, type: str, seed: int, *, full: bool) -> Item:
    """Return the question of a cell with this seed, the same for the same arguments.

    `full` writes the whole chain of thought, otherwise each part is a sentence or less. Raises Fault for a cell that
    has no form and for a topic without a sheet.
    """
    form = FORMS.get((type, difficulty))
    if form is None:
        raise Fault(f"no form for type '{type}' at difficulty '{difficulty}'")
    sheet = read(topic)
    # Python seeds from a string by SHA-512, so draws are the same on every machine and in every process.
    draw = Draw(sheet, Random(f"{topic}/{difficulty}/{type}/{seed}"), seed % SAMPLES)
    draft = form(draw)
    options = shuffled((draft.right, *draft.wrong), draw.rng)
    at = options.index(draft.right)
    why = reason(sheet, answer.question(topic, draft.stem), options, at)
    return chains.write(draft.stem, options, at, why, draw.rng, draft.wrong, full=full)


def shuffled(options: Options, rng: Random) -> Options:
    """Return the options in an order that the generator draws."""
    order = list(options)
    rng.shuffle(order)
    a, b, c, d = order
    return a, b, c, d
