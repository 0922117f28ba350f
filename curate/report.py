"""Show the quality of one version of the bank: a page for people, a metric for `dvc metrics`, figures for `dvc plots`.

data/ (the four sides, decontaminated.jsonl, rejects/, asked/), metrics/, decisions.jsonl → quality.html, metrics, a
folder with a CSV file for each figure.

The page begins with what a person should look at first (curate/reporting/attention.py). It opens with no network; it
holds no text of the bank but a few rejects of each reason. The same files give the same page.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import click
from msgspec.structs import replace

from curate.decisions import Rate
from curate.reporting.attention import findings
from curate.reporting.figures import Figure, figures
from curate.reporting.quality import DROP, SIDES, Quality, gathered, uneven
from curate.reporting.tallies import EXACT, MARKS, PARTS, Example, quantile
from schemas.page import Cell, Details, Facts, Part, Section, Table, Words, page
from schemas.rows import whole, write_json

ABOUT = (
    "The quality of this version, written by curate report from the files of its stages. The same figures are in "
    "metrics/report.json (dvc metrics diff) and in plots/report (dvc plots diff)."
)


def headline(quality: Quality) -> dict[str, float | int | None]:
    """Return the few figures that `dvc metrics diff` compares, flat; None where nothing is known."""
    bank, said, review = quality.bank, quality.opinions, quality.gate.review
    answers, judged = said.answers.total(), said.judged.total()
    replies = quality.validate.responses
    variants = quality.score.variants if quality.score else {}
    return {
        "responses": replies,
        "records": bank.records,
        "yield": _ratio(bank.records, replies),
        "invalid": _ratio(sum(quality.validate.rejected.values()), replies),
        "mended": _ratio(sum(quality.validate.repaired.values()), replies),
        "duplicates": _ratio(sum(n for reason, n in quality.lost("dedup").items() if reason != "conflict"), replies),
        "conflicts": quality.lost("dedup")["conflict"],
        "cells_empty": len(quality.empty),
        "letters_uneven": round(uneven(quality.letters(*SIDES)), 4),
        "answer_longest": quality.validate.answer_longest,
        "neutrality": _ratio(bank.neutrality.total() / EXACT, bank.records),
        "not_neutral": _ratio(bank.decrees.total(), bank.records),
        "agreement": _ratio(said.agreed.total(), answers),
        "mark": _ratio(said.marks.total() / len(MARKS), judged),
        "reviewed": review.reviewed,
        "accept": review.accept,
        "stale": review.stale,
        "test": quality.split.test,
        "nearest_to_test": quality.split.nearest_to_test.max,
        "pairs": quality.pairs.pairs if quality.pairs else None,
        **{f"accuracy_{name}": variant.accuracy for name, variant in variants.items()},
        "attention": len(findings(quality)),
    }


def _ratio(part: float, of: int) -> float | None:
    return round(part / of, 4) if of else None


# --- sections ------------------------------------------------------------------------------------------------------


def sections(quality: Quality, drawn: dict[str, Figure]) -> list[Section]:
    """Return the page, section by section."""
    made = [
        Section("Look at first", tuple(first(quality))),
        Section("From reply to record", tuple(funnel(quality, drawn))),
        Section("Rejects", tuple(rejects(quality, drawn))),
        Section("Repairs", (_bars(drawn["repairs"], "No reply had to be mended."),)),
        Section("Coverage", tuple(coverage(quality, drawn))),
        Section("Answer letters", tuple(letters(quality, drawn))),
        Section("Lengths", tuple(lengths(quality, drawn))),
        Section("Language and script", tuple(language(quality))),
        Section("Duplicates and conflicts", tuple(duplicates(quality))),
        Section("Neutrality", tuple(neutrality(quality, drawn))),
        Section("Verify and judge", tuple(opinions(quality, drawn))),
        Section("Reviewers", tuple(reviewers(quality, drawn))),
        Section("Sides", tuple(sides(quality, drawn))),
        Section("Preference pairs", tuple(pairs(quality, drawn))),
        Section("Models", tuple(models(quality, drawn))),
        Section("Asking", tuple(asking(quality))),
    ]
    return [section for section in made if section.parts]


def first(quality: Quality) -> Iterable[Part]:
    """Yield the headline and what a person should look at."""
    numbers = headline(quality)
    yield Facts(tuple(_fact(numbers, *tile) for tile in TILES))
    found = findings(quality)
    if not found:
        yield Words(("Nothing stands out.",))
        return
    yield Table(
        f"What to look at first: {len(found)}",
        ("What", "Where", "Figure", "Look at"),
        tuple((finding.what, finding.where, finding.figure, finding.look) for finding in found),
        note="Shares of a topic are listed where they are off the whole by 5 points and more than chance explains.",
    )


def funnel(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield what each stage left, and of which topic it dropped how much."""
    yield _bars(drawn["funnel"])
    left = list(quality.funnel.items())
    yield Table(
        "Stages",
        ("Stage", "Rows in", "Left", "Dropped", "Share dropped"),
        tuple(
            (stage, before, after, before - after, _ratio(before - after, before))
            for (_, before), (stage, after) in pairwise(left)
        ),
        formats=("", "{:,}", "{:,}", "{:,}", "{:.1%}"),
    )
    asked, kept, dropped = quality.responses, quality.topics, quality.rejects.topics
    yield Table(
        "Topics: what each stage dropped, and what is in the bank",
        ("Topic", "Name", "Replies", *DROP, "Records", "Yield"),
        tuple(
            (
                topic,
                of.name,
                asked[topic],
                *(dropped[topic, stage] for stage in DROP),
                kept[topic],
                _ratio(kept[topic], asked[topic]),
            )
            for topic, of in quality.grid.topics.items()
        ),
        formats=("", "", "{:,}", *("{:,}" for _ in DROP), "{:,}", "{:.1%}"),
        heat=tuple(range(3, 3 + len(DROP))),
    )


def rejects(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield the reasons, and a few rows of each."""
    yield _bars(drawn["rejects"], "No row was dropped.")
    for (stage, reason), shown in quality.rejects.examples.items():
        count = quality.rejects.reasons[stage, reason]
        yield Details(f"{stage}: {reason}, {count:,}", (_examples(shown, f"data/rejects/{stage}.jsonl"),))


def _examples(shown: list[Example], path: str) -> Table:
    return Table(
        f"{len(shown)} of them",
        ("Row", "Topic", "Why", "Text", "Kept in its place"),
        tuple((example.id, example.topic, example.detail, example.question, example.kept) for example in shown),
        note=f"All are in {path}; curate explain ROW tells a row's life.",
    )


def coverage(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield how the bank covers its grid."""
    yield _bars(drawn["topics"])
    cells = quality.cells
    types = list(dict.fromkeys(type_ for _, _, type_ in cells))
    lines = dict.fromkeys((topic, difficulty) for topic, difficulty, _ in cells)
    rows: list[tuple[Cell, ...]] = []
    for topic, difficulty in lines:
        counts = [cells.get((topic, difficulty, type_), 0) for type_ in types]
        rows.append((topic, difficulty, *counts, sum(counts)))
    empty = f"{len(quality.empty)} of {len(cells)} cells are empty."
    yield Table(
        "Records by topic, difficulty and type",
        ("Topic", "Difficulty", *types, "All"),
        tuple(rows),
        formats=("", "", *("{:,}" for _ in types), "{:,}"),
        heat=tuple(range(2, 2 + len(types))),
        note=empty,
    )


def letters(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield how often each letter is right, and whether the right option can be told by its looks."""
    yield _bars(drawn["letters"])
    before, after = quality.balance.letters_before, quality.balance.letters
    yield Table(
        "Records by answer",
        ("Letter", "Before balance", "After", *(side.capitalize() for side in SIDES)),
        tuple(
            (letter, before[letter], after[letter], *(quality.bank.letters[side, letter] for side in SIDES))
            for letter in after
        ),
        formats=("", *("{:,}" for _ in range(2 + len(SIDES)))),
    )
    seen = quality.validate
    yield Facts(
        (
            ("Right option is the longest", f"{seen.answer_longest:.1%}", "25 % by chance"),
            ("Its width to the others'", f"{seen.answer_ratio:.3f}", "1 if width tells nothing"),
            ("All or none of the above", f"{seen.answer_all_or_none:,}", "right options that say so"),
        )
    )


def lengths(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield how long the texts are."""
    yield from (_histogram(drawn[f"{part}s"]) for part in PARTS)
    rows = []
    for part in PARTS:
        sizes = _sizes(quality, part)
        if sizes:
            marks = [quantile(sizes, share) for share in (0.1, 0.5, 0.9, 0.99)]
            rows.append((part, min(sizes), *marks, max(sizes)))
    columns = ("Part", "Shortest", "10 %", "Median", "90 %", "99 %", "Longest")
    yield Table("Characters", columns, tuple(rows), formats=("", *("{:,}" for _ in columns[1:])))


def _histogram(figure: Figure) -> Part:
    """Return the figure from the first of its bins that is not empty to the last."""
    used = [k for k, row in enumerate(figure.rows.values()) if any(row)]
    rows = list(figure.rows.items())[used[0] : used[-1] + 1] if used else []
    return _bars(replace(figure, rows=dict(rows)))


def language(quality: Quality) -> Iterable[Part]:
    """Yield which language and script the records are in."""
    for title, counts in (("Language", quality.bank.languages), ("Script", quality.bank.scripts)):
        yield Table(
            title,
            (title, "Records", "Share"),
            tuple((name, count, _ratio(count, quality.bank.records)) for name, count in sorted(counts.items())),
            formats=("", "{:,}", "{:.1%}"),
            note={
                "Language": "chinese: at least half of the letters; mixed: fewer; other: none.",
                "Script": "By characters that only one of the two standards has; neither: a text without any.",
            }[title],
        )


def duplicates(quality: Quality) -> Iterable[Part]:
    """Yield what dedup found."""
    lost = quality.lost("dedup")
    yield Table(
        "Found by dedup",
        ("Reason", "Rows", "Share of the rows in"),
        tuple((reason, count, _ratio(count, quality.dedup.records)) for reason, count in sorted(lost.items())),
        formats=("", "{:,}", "{:.2%}"),
        note="conflict: one question with two answers; all its rows are set aside.",
    )
    near, clusters = quality.dedup.near_other_answer, quality.split
    yield Facts(
        (
            ("Alike, with another answer", f"{near:,}", "kept: a year or a 不 makes another question"),
            ("Stems of the bank", f"{clusters.clusters:,}", "questions of one stem share a side"),
            ("Most questions of one stem", f"{clusters.largest_cluster:,}", ""),
        )
    )


def neutrality(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield how neutral the chains are."""
    yield _bars(drawn["neutrality"])
    yield Table(
        "Chains by topic",
        ("Topic", "Mean", "Below 0.5", "Records"),
        tuple((topic, *row, quality.topics[topic]) for topic, row in drawn["neutrality"].rows.items()),
        formats=("", "{:.3f}", "{:.1%}", "{:,}"),
        heat=(2,),
        note="0.5 plus ten times the words that weigh less those that decree, a character (schemas/neutrality.py).",
    )


def opinions(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield what verify and judge said."""
    said, grid = quality.opinions, quality.grid.topics
    yield _bars(drawn["marks"], "The judge was asked about no record.")
    yield _bars(drawn["agreement"], "Verify was asked about no record.")
    rows = []
    for topic in [*grid, *sorted(set(said.records) - set(grid))]:
        judged, answers = said.judged[topic], said.answers[topic]
        of = [_ratio(said.marks[topic, name], judged) for name in MARKS]
        mean = _ratio(sum(said.marks[topic, name] for name in MARKS) / len(MARKS), judged)
        rows.append((topic, answers or None, _ratio(said.agreed[topic], answers), judged or None, *of, mean))
    named = tuple(name.replace("_", " ") for name in MARKS)
    yield Table(
        "Agreement and marks by topic",
        ("Topic", "Answers", "Agree", "Judged", *named, "Mean"),
        tuple(rows),
        formats=("", "{:,}", "{:.1%}", "{:,}", *("{:.2f}" for _ in named), "{:.2f}"),
        heat=tuple(range(4, 5 + len(named))),
    )


def reviewers(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield what people decided."""
    review, decided = quality.gate.review, quality.reviewers
    if not decided.verdicts:
        yield Words(("Nobody has reviewed a record yet: curate review opens a page to do so.",))
        return
    yield Facts(
        (
            ("Records reviewed", f"{review.reviewed:,}", f"of {quality.gate.records:,}"),
            ("Accepted as they are", _percent(review.accept), _interval(review)),
            ("Edited", f"{review.edited:,}", ""),
            ("Rejected", f"{review.rejected:,}", ""),
            ("Kept against verify or judge", f"{review.overruled:,}", ""),
            ("Stale", f"{review.stale:,}", "decisions about records that have changed since"),
            ("About records that are gone", f"{review.not_there:,}", ""),
        )
    )
    yield _bars(drawn["accept"], "No decision stands.")
    yield Table(
        "Accept rate by topic",
        ("Topic", "Reviewed", "Accepted", "Rate", "Low", "High"),
        tuple(
            (topic, rate.reviewed, rate.accepted, rate.accept, rate.low, rate.high)
            for topic, rate in review.topics.items()
        ),
        formats=("", "{:,}", "{:,}", "{:.1%}", "{:.1%}", "{:.1%}"),
        note="Of the records drawn by chance. Low and high: the ends of Wilson's 95 % interval.",
    )
    names = sorted({name for name, _ in decided.verdicts})
    yield Table(
        "Reviewers: what each decided last about each record",
        ("Reviewer", "Accept", "Edit", "Reject"),
        tuple((name, *(decided.verdicts[name, verdict] for verdict in ("accept", "edit", "reject"))) for name in names),
        formats=("", "{:,}", "{:,}", "{:,}"),
    )
    if decided.reasons:
        counts = tuple(decided.reasons.most_common())
        yield Table("Why they reject", ("Reason", "Rejects"), counts, formats=("", "{:,}"))
    if review.kappa:
        yield Table(
            "How far two reviewers agree",
            ("Reviewers", "Records", "Agreed", "Kappa"),
            tuple((names, two.records, two.agreed, two.kappa) for names, two in review.kappa.items()),
            formats=("", "{:,}", "{:,}", "{:.2f}"),
            note="Cohen's kappa, accept or not: 1 is full agreement, 0 is what chance gives.",
        )


def sides(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield the sizes of the sides and how far the test is from the others."""
    split = quality.split
    near = split.nearest_to_test
    yield _bars(drawn["sides"])
    yield Facts(
        (
            ("Set aside", f"{split.set_aside:,}", f"as similar as {split.threshold} to a held-out question"),
            *(
                (f"Nearest to a test question: {name}", "–" if value is None else f"{value:.3f}", "similarity")
                for name, value in (("median", near.median), ("90 %", near.p90), ("99 %", near.p99), ("most", near.max))
            ),
        )
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (topic, *(quality.bank.sides[side, topic] for side in SIDES)) for topic in quality.topics
    )
    names = tuple(side.capitalize() for side in SIDES)
    yield Table(
        "Records by topic and side",
        ("Topic", *names),
        rows,
        formats=("", *("{:,}" for _ in names)),
        heat=(4,),
    )


def pairs(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield the preference pairs by type."""
    if quality.pairs is None:
        yield Words(("metrics/pairs.json is not there yet: dvc repro pairs.",))
        return
    yield _bars(drawn["pairs"])
    yield Table(
        "Pairs by type",
        ("Type", "Pairs", "Characters, chosen", "Characters, rejected", "Not made"),
        tuple(
            (name, of.pairs, of.chosen_characters, of.rejected_characters, sum(of.dropped.values()))
            for name, of in quality.pairs.types.items()
        ),
        formats=("", "{:,}", "{:.1f}", "{:.1f}", "{:,}"),
    )


def models(quality: Quality, drawn: dict[str, Figure]) -> Iterable[Part]:
    """Yield how the trained variants answer the test."""
    score = quality.score
    if score is None:
        yield Words(("metrics/score.json is not there yet: dvc repro score.",))
        return
    yield _bars(drawn["accuracy"])
    yield Table(
        f"{score.n:,} test questions",
        ("Variant", "Accuracy", "Low", "High", *(f"Answers {letter}" for letter in score.key_answers)),
        tuple(
            (name, of.accuracy, *of.wilson95, *(of.answers.get(letter, 0) for letter in score.key_answers))
            for name, of in score.variants.items()
        ),
        formats=("", "{:.3f}", "{:.3f}", "{:.3f}", *("{:,}" for _ in score.key_answers)),
        note="Low and high: the ends of Wilson's 95 % interval.",
    )
    yield Table(
        "Variants compared on the same questions",
        ("Variant", "Against", "Difference", "Low", "High", "McNemar p"),
        tuple((two.to, two.from_, two.difference, *two.interval95, two.mcnemar_p) for two in score.pairs),
        formats=("", "", "{:+.3f}", "{:+.3f}", "{:+.3f}", "{:.2g}"),
    )
    yield _bars(drawn["accuracy_type"])
    yield _bars(drawn["accuracy_topic"])
    yield Table(
        "Accuracy by part of the test",
        ("Part", "Group", "Questions", *score.variants),
        tuple(_by_group(quality)),
        formats=("", "", "{:,}", *("{:.3f}" for _ in score.variants)),
        heat=tuple(range(3, 3 + len(score.variants))),
    )


def _by_group(quality: Quality) -> Iterable[tuple[Cell, ...]]:
    variants = quality.score.variants if quality.score else {}
    for kind in ("topic", "difficulty", "type"):
        groups = {name: getattr(of, f"by_{kind}") for name, of in variants.items()}
        for group in sorted({group for of in groups.values() for group in of}):
            right = [of.get(group) for of in groups.values()]
            size = max((found.n for found in right if found), default=0)
            yield kind, group, size, *(found.accuracy if found else None for found in right)


def asking(quality: Quality) -> Iterable[Part]:
    """Yield what was asked of the teacher, and what it took."""
    if quality.asked:
        yield Table(
            "Requests of generate",
            ("Topic", "Requests", "Valid", "Share valid", "Asked again", "Tokens in", "Tokens out"),
            tuple(
                (
                    topic,
                    of.requests,
                    of.valid,
                    _ratio(of.valid, of.requests),
                    of.reasked,
                    of.prompt_tokens,
                    of.completion_tokens,
                )
                for topic, of in quality.asked.items()
            ),
            formats=("", "{:,}", "{:,}", "{:.1%}", "{:,}", "{:,}", "{:,}"),
        )


def _bars(figure: Figure, nothing: str = "Nothing to show.") -> Part:
    return figure.bars() if figure.rows else Words((nothing,))


def _sizes(quality: Quality, part: str) -> Counter[int]:
    return Counter({size: count for (of, size), count in quality.bank.lengths.items() if of == part})


def _fact(numbers: dict[str, float | int | None], key: str, label: str, form: str, small: str) -> tuple[str, str, str]:
    value = numbers[key]
    return label, "–" if value is None else form.format(value), small.format(**numbers)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _interval(rate: Rate) -> str:
    return "" if rate.low is None or rate.high is None else f"95 %: {rate.low:.1%} to {rate.high:.1%}"


TILES = (
    ("records", "Records in the bank", "{:,}", "of {responses:,} replies"),
    ("yield", "Yield", "{:.1%}", "records to replies"),
    ("invalid", "Invalid replies", "{:.1%}", "rejected by validate"),
    ("duplicates", "Duplicates", "{:.1%}", "and {conflicts:,} rows in conflict"),
    ("cells_empty", "Empty cells", "{:,}", "topic × difficulty × type"),
    ("letters_uneven", "Letters off a quarter", "{:.2%}", "at most"),
    ("agreement", "Verify agrees", "{:.1%}", ""),
    ("mark", "Mean mark", "{:.2f}", "of 5"),
    ("accept", "Reviewers accept", "{:.1%}", "{reviewed:,} reviewed"),
    ("test", "Test questions", "{:,}", ""),
)


@click.command()
@click.argument("data", type=click.Path(path_type=Path), default=Path("data"))
@click.argument("metrics", type=click.Path(path_type=Path), default=Path("metrics"))
@click.argument("decisions", type=click.Path(path_type=Path), default=Path("curate/decisions.jsonl"))
@click.argument("out", metavar="[PAGE]", type=click.Path(path_type=Path), default=Path("report/quality.html"))
@click.argument(
    "figures_file", metavar="[METRIC]", type=click.Path(path_type=Path), default=Path("metrics/report.json")
)
@click.argument("plots", type=click.Path(path_type=Path), default=Path("plots/report"))
def main(data: Path, metrics: Path, decisions: Path, out: Path, figures_file: Path, plots: Path) -> None:
    """Write the quality of the bank as one page, and the figures behind it.

    From the project's root no argument is needed: as in dvc.yaml, the page is report/quality.html.
    """
    quality = gathered(data, metrics, decisions)
    drawn = figures(quality)
    for name, figure in drawn.items():
        with whole(plots / f"{name}.csv") as file:
            file.write(figure.csv())
    write_json(figures_file, headline(quality))
    with whole(out) as file:
        file.write(page("Quality of the bank", ABOUT, sections(quality, drawn)).encode())
    click.echo(f"report: {quality.bank.records:,} records, {len(findings(quality))} things to look at first: {out}")


if __name__ == "__main__":
    from curate.report import main as run  # workers find its functions under the module's own name

    run()
