"""What a person should look at first: one rule a kind of fault, each finding with its figure and where to look.

To add a rule, write its function and its line in RULES; findings stand on the page in that order. A share of a topic
is a finding only if it is both *clearly* off (by CLEAR) and *surely* (the whole lies outside of its 95 % interval): the
less there is of a topic, the further off it has to be.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from msgspec import Struct

from curate.reporting.quality import DROP, SIDES, Quality, uneven
from curate.reporting.tallies import MARKS
from schemas.interval import wilson
from schemas.record import LETTERS

CLEAR = 0.05
"""How far a share has to be off the whole."""
VALID = 0.95
"""Share of a capable teacher's replies that are valid."""
LOST = 0.05
"""Share of what came to a stage that one reason may take."""
LOW_MARK = 3.5
"""Mean of a judge's marks, 1 to 5."""
LOW_KAPPA = 0.4
"""Agreement below it is fair or less, by Landis and Koch (1977)."""
LONGEST = 0.30
"""Share of right options that are the longest of four, where chance gives 0.25."""
SKEW = 0.02
"""How far the share of a letter may be off a quarter, if chance does not explain it."""
ONE_LETTER = 0.5
"""Share of a model's answers that are one and the same letter."""
TEST = 400
"""Questions of a test below which an accuracy is known to no better than ± 0.05."""


class Finding(Struct, frozen=True):
    """One line of the list."""

    what: str
    where: str
    figure: str
    look: str


def not_there(quality: Quality) -> Iterator[Finding]:
    """Files of the last stages are missing, or are of another version."""
    for path in quality.missing:
        yield Finding("not there yet", path, "–", "dvc repro, then curate report")
    score, test = quality.score, quality.letters("test")
    # Without a test side, the test is the user's own.
    if score and any(test.values()) and (score.n != sum(test.values()) or score.key_answers != test):
        figure = f"{score.n:,} questions scored, {sum(test.values()):,} in the test file"
        yield Finding("scores of another test set", "metrics/score.json", figure, "dvc repro score")


def runs_are_mixed(quality: Quality) -> Iterator[Finding]:
    """A stage was not run again after the one before it: their figures do not fit together."""
    split, left = quality.split, quality.funnel
    taken = {
        "dedup": quality.dedup.records,
        "decontaminate": quality.decontaminate.records,
        "gate": quality.gate.records,
        "balance": quality.balance.records,
        "split": split.records,
    }
    for before, stage in pairwise(DROP):
        if taken[stage] != left[before]:
            figure = f"{taken[stage]:,} rows in, {left[before]:,} left by {before}"
            yield Finding("of another run", stage, figure, "dvc repro")
    if sum(getattr(split, side) for side in SIDES) != quality.bank.records:
        yield Finding("of another run", "metrics/split.json", "not what is on the sides", "dvc repro")


def reviewers_object(quality: Quality) -> Iterator[Finding]:
    """Nobody has looked, what they saw has changed, or they accept too little."""
    review, least = quality.gate.review, quality.grid.accept
    if not review.reviewed:
        yield Finding("nobody has reviewed", "the bank", f"0 of {quality.gate.records:,} records", "curate review")
    if review.stale:
        figure = f"{review.stale:,} decisions about records that have changed since"
        yield Finding("reviews are stale", "curate/decisions.jsonl", figure, "curate review")
    low = sorted((rate.accept, topic, rate) for topic, rate in review.topics.items() if rate.accept is not None)
    for accept, topic, rate in low:
        if least is not None and accept < least:
            figure = f"{accept:.0%} [{rate.low:.0%}, {rate.high:.0%}] of {rate.reviewed}, at least {least:.0%}"
            yield Finding("reviewers accept little", topic, figure, "Reviewers; curate/decisions.jsonl")


def reviewers_disagree(quality: Quality) -> Iterator[Finding]:
    """Two reviewers agree little better than chance."""
    for names, two in quality.gate.review.kappa.items():
        if two.kappa is not None and two.kappa < LOW_KAPPA:
            figure = f"kappa {two.kappa:.2f} over {two.records} records"
            yield Finding("reviewers disagree", names, figure, "curate/decisions.jsonl")


def replies_are_bad(quality: Quality) -> Iterator[Finding]:
    """The teacher's replies of a topic are not valid."""
    for topic, asked in quality.asked.items():
        if asked.requests and asked.valid < VALID * asked.requests:
            figure = f"{asked.valid / asked.requests:.1%} of {asked.requests:,} replies valid"
            yield Finding("replies are bad", topic, figure, f"datagen status --cells; data/responses/{topic}.jsonl")


def a_reason_takes_much(quality: Quality) -> Iterator[Finding]:
    """One reason takes a good part of what comes to a stage; and a conflict, always."""
    before = dict(zip(DROP, quality.funnel.values(), strict=False))
    for stage in DROP:
        for reason, count in quality.lost(stage).most_common():
            share = count / max(1, before[stage])
            if share >= LOST or reason == "conflict":
                figure = f"{count:,}, {share:.1%} of what came to {stage}"
                yield Finding("many are dropped", f"{stage}: {reason}", figure, f"data/rejects/{stage}.jsonl")


def a_topic_yields_little(quality: Quality) -> Iterator[Finding]:
    """Of a topic's replies fewer end in the bank than of the others'."""
    parts = {topic: (quality.topics[topic], n) for topic, n in quality.responses.items()}
    for topic, share, whole in surely_below(parts):
        worst = max(DROP, key=lambda stage: quality.rejects.topics[topic, stage])
        figure = f"{share:.1%} of {parts[topic][1]:,} replies are in the bank, {whole:.1%} of all; most lost at {worst}"
        yield Finding("yields little", topic, figure, f"data/rejects/{worst}.jsonl; datagen regen {topic}")


def cells_are_empty(quality: Quality) -> Iterator[Finding]:
    """A cell of the grid has no record."""
    for topic in quality.grid.topics:
        empty = [f"{difficulty} × {type_}" for of, difficulty, type_ in quality.empty if of == topic]
        if empty:
            shown = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
            figure = f"{len(empty)} of {len(quality.grid.difficulties) * len(quality.grid.types)} cells: {shown}"
            yield Finding("cells are empty", topic, figure, f"Coverage; datagen regen {topic}")


def verify_disagrees(quality: Quality) -> Iterator[Finding]:
    """Those who do not see the answer give another one, more often than in other topics."""
    said = quality.opinions
    parts = {topic: (said.agreed[topic], n) for topic, n in said.answers.items()}
    for topic, share, whole in surely_below(parts):
        figure = f"{share:.1%} of {parts[topic][1]} answers agree, {whole:.1%} of all"
        yield Finding("verify disagrees", topic, figure, "data/asked/verify.jsonl, data/rejects/gate.jsonl")


def marks_are_low(quality: Quality) -> Iterator[Finding]:
    """The judge marks a topic low, or all of them in one respect."""
    said = quality.opinions
    for name in MARKS:
        judged = said.judged.total()
        mean = sum(said.marks[topic, name] for topic in said.judged) / judged if judged else LOW_MARK
        if mean < LOW_MARK:
            yield Finding("marked low", name, f"mean {mean:.2f} of {judged} records", "data/asked/judge.jsonl")
    for topic, judged in sorted(said.judged.items()):
        mean = sum(said.marks[topic, name] for name in MARKS) / len(MARKS) / judged
        if mean < LOW_MARK:
            yield Finding("marked low", topic, f"mean {mean:.2f} of {judged} records", "data/asked/judge.jsonl")


def chains_take_sides(quality: Quality) -> Iterator[Finding]:
    """Many chains of a topic hold more words that decree than words that weigh."""
    bank = quality.bank
    for topic, count in bank.topics.items():
        share = bank.decrees[topic] / count
        if share >= CLEAR:
            figure = f"{share:.1%} of {count:,} chains decree more than they weigh"
            yield Finding("chains take sides", topic, figure, "Neutrality")


def letters_tell(quality: Quality) -> Iterator[Finding]:
    """A letter is the answer too often, in the bank or in its test."""
    for name, letters in (("the bank", quality.letters(*SIDES)), ("the test side", quality.letters("test"))):
        total = sum(letters.values())
        # Three standard deviations of a share of a quarter: one in a hundred even banks is beyond, of four letters.
        if total and uneven(letters) > max(SKEW, 3 * (0.1875 / total) ** 0.5):
            most = max(letters, key=lambda letter: abs(letters[letter] / total - 1 / len(LETTERS)))
            figure = f"{most} is the answer of {letters[most] / total:.1%} of {total:,}"
            yield Finding("letters are uneven", name, figure, "Answer letters; metrics/balance.json unchanged")


def looks_tell(quality: Quality) -> Iterator[Finding]:
    """The right option is told by its length."""
    share = quality.validate.answer_longest
    if share > LONGEST:
        figure = f"the right option is the longest of {share:.1%}, by chance of 25 %"
        yield Finding("length tells the answer", "the bank", figure, "validate.max_answer_ratio in params.yaml")


def sides_are_thin(quality: Quality) -> Iterator[Finding]:
    """A side is empty, the test is small, or too near to what is trained on."""
    split = quality.split
    own = not split.test and quality.score is not None and quality.score.n > 0
    for side in SIDES:
        if not (getattr(split, side) or side == "author" or (side == "test" and own)):
            yield Finding("a side is empty", side, "0 records", f"split.{side} in params.yaml; metrics/split.json")
    if 0 < split.test < TEST:
        half = (wilson(split.test // 2, split.test)[1] - wilson(split.test // 2, split.test)[0]) / 2
        figure = f"{split.test} questions: an accuracy of 50 % is known to ± {half:.0%}"
        yield Finding("the test is small", "test", figure, "split.test in params.yaml")
    if split.nearest_to_test.max is not None and split.nearest_to_test.max >= split.threshold:
        figure = f"similarity {split.nearest_to_test.max:.3f}, below {split.threshold}"
        yield Finding("a test question has a twin", "test", figure, "metrics/split.json")


def pairs_are_missing(quality: Quality) -> Iterator[Finding]:
    """No preference pair of a type could be made."""
    for name, of in quality.pairs.types.items() if quality.pairs else ():
        if not of.pairs:
            why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(of.dropped.items())) or "none drawn"
            yield Finding("no pairs of a type", name, why, "data/rejects/pairs.jsonl")


def models_fail(quality: Quality) -> Iterator[Finding]:
    """A variant is no better than chance, answers one letter, or fails in a topic."""
    variants = quality.score.variants if quality.score else {}
    for name, variant in variants.items():
        low, high = variant.wilson95
        total = sum(variant.answers.values())
        most = max(variant.answers, key=lambda letter: variant.answers[letter], default="")
        if low <= 1 / len(LETTERS):
            figure = f"{variant.accuracy:.3f} [{low:.3f}, {high:.3f}]"
            yield Finding("no better than chance", name, figure, f"Models; submissions/{name}")
        if total and variant.answers[most] > ONE_LETTER * total:
            figure = f"{most} to {variant.answers[most] / total:.1%} of {total:,}"
            yield Finding("answers one letter", name, figure, f"submissions/{name}")
    best = max(variants, key=lambda name: variants[name].accuracy, default=None)
    if best is not None:
        of = variants[best]
        for kind, groups in (("topic", of.by_topic), ("difficulty", of.by_difficulty), ("type", of.by_type)):
            for group, right in sorted(groups.items(), key=lambda item: item[1].accuracy):
                if right.wilson95[1] < of.accuracy and of.accuracy - right.accuracy >= CLEAR:
                    low, high = right.wilson95
                    figure = f"{right.accuracy:.2f} [{low:.2f}, {high:.2f}] of {right.n}, {of.accuracy:.2f} of all"
                    yield Finding(f"{best} answers worse", f"{kind} {group}", figure, f"submissions/{best}")


def surely_below(parts: dict[str, tuple[int, int]]) -> Iterator[tuple[str, float, float]]:
    """Yield the parts (right, of how many) whose share is clearly and surely below the whole's, and both shares."""
    right, total = (sum(part[k] for part in parts.values()) for k in (0, 1))
    whole = right / total if total else 0.0
    shares = sorted((part[0] / part[1], name) for name, part in parts.items() if part[1])
    for share, name in shares:
        if whole - share >= CLEAR and wilson(*parts[name])[1] < whole:
            yield name, share, whole


def findings(quality: Quality) -> list[Finding]:
    """Return what a person should look at, in the order of the rules."""
    return [finding for rule in RULES for finding in rule(quality)]


RULES: tuple[Callable[[Quality], Iterator[Finding]], ...] = (
    not_there,
    runs_are_mixed,
    reviewers_object,
    reviewers_disagree,
    replies_are_bad,
    a_reason_takes_much,
    a_topic_yields_little,
    cells_are_empty,
    verify_disagrees,
    marks_are_low,
    chains_take_sides,
    letters_tell,
    looks_tell,
    sides_are_thin,
    pairs_are_missing,
    models_fail,
)
