"""Compare two versions of the bank, record by record: what changed, what may be responsible, to what effect.

A git revision, tag, branch or experiment, or the workspace, against another → text of one screen, one JSON document, or
one HTML page that opens with no network.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from unicodedata import east_asian_width

import click
import msgspec
import numpy as np
from msgspec import Struct

from curate.auditing.causes import Cause
from curate.auditing.changes import BIT, SIDES, Id, names
from curate.auditing.differences import Audit, Compared, Effect, Figures, differences
from curate.auditing.fates import Fate
from curate.auditing.revisions import version
from curate.auditing.scored import Accuracy, Variant
from schemas.faults import Fault
from schemas.rows import whole

COLUMNS = 100
TOPICS = 15  # that the text tells, those with most changes first
CAUSES = 8
FEW = 4  # reasons, notes, variants that are told
SHARED_BY = ("added", "removed", "changed", "moved")


class Told(Struct, frozen=True):
    """A record that is not the same in both versions."""

    change: str
    """added, removed, changed, moved (in its side alone), same (under another id)."""
    id: str
    """In the version that has it; of both, in the newer."""
    was: str | None
    """Its id before, if that was another."""
    topic: str
    difficulty: str
    type: str
    sides: tuple[str | None, str | None]
    """Before and after."""
    fields: tuple[str, ...]
    fate: Fate | None
    """Of a removed record in the newer version, of an added one in the older."""


class Place(Struct, frozen=True, gc=False):
    """Which record it is, and where it belongs."""

    id: str = ""
    topic: str = ""
    difficulty: str = ""
    type: str = ""


def records(compared: Compared) -> Iterator[Told]:
    """Yield every record that is not the same in both versions, in the order of the banks."""
    a, b, changes = compared.a, compared.b, compared.changes
    for change, bank, rows, fates in (
        ("removed", a, changes.removed, compared.gone),
        ("added", b, changes.added, compared.been),
    ):
        where = bank.rows["side"][rows].tolist()
        for record, side, fate in zip(bank.read(rows, Place), where, fates, strict=True):
            sides = (SIDES[side], None) if change == "removed" else (None, SIDES[side])
            yield Told(change, record.id, None, record.topic, record.difficulty, record.type, sides, (), fate)
    other = np.flatnonzero((changes.fields != 0) | changes.new_id)
    old, new = changes.a[other], changes.b[other]
    sides_ = zip(a.rows["side"][old].tolist(), b.rows["side"][new].tolist(), strict=True)
    pairs = zip(a.read(old, Id), b.read(new, Place), sides_, changes.fields[other].tolist(), strict=True)
    for before, record, (side, other_side), bits in pairs:
        change = "same" if not bits else "moved" if bits == BIT["side"] else "changed"
        was = before.id if before.id != record.id else None
        both = SIDES[side], SIDES[other_side]
        yield Told(change, record.id, was, record.topic, record.difficulty, record.type, both, names(bits), None)


def as_json(compared: Compared) -> Iterator[bytes]:
    """Yield one JSON document in pieces: all that is told, and under `records` each record that is not the same."""
    encode = msgspec.json.Encoder().encode
    yield encode(compared.audit).removesuffix(b"}") + b',"records":['
    for place, told in enumerate(records(compared)):
        yield (b",\n" if place else b"\n") + encode(told)
    yield b"\n]}\n"


# --- one screen ----------------------------------------------------------------------------------------------------


def lines(audit: Audit) -> Iterator[str]:
    """Yield what is told in text: one screen, at most COLUMNS wide."""
    for line in _all(audit):
        yield _cut("".join(character if character.isprintable() else "\ufffd" for character in line))


def _cut(line: str) -> str:
    """Return as much of a line as has room; a Chinese character takes two columns."""
    widths = list(accumulate(2 if east_asian_width(character) in "WF" else 1 for character in line))
    if not widths or widths[-1] <= COLUMNS:
        return line
    return f"{line[: bisect_right(widths, COLUMNS - 1)]}…"


def _all(audit: Audit) -> Iterator[str]:
    a, b = audit.before, audit.after
    for sign, each in (("a", audit.a), ("b", audit.b)):
        commit = f" {each.commit[:7]}" if each.commit and not each.commit.startswith(each.name) else ""
        yield f"{sign}  {each.name}{commit}" + (f"  {each.about}" if each.about else "")
    yield (
        f"{a.records:,} → {b.records:,} records: {audit.unchanged:,} the same, {audit.changed:,} changed, "
        f"{audit.added:,} added, {audit.removed:,} removed, {audit.moved:,} moved"
    )
    if audit.new_id:
        yield f"{audit.new_id:,} of those in both are under another id, found by what they ask"
    for note in audit.notes[:FEW]:
        yield from wrap(note, COLUMNS, initial_indent="! ", subsequent_indent="  ", max_lines=3, placeholder=" …")
    if len(audit.notes) > FEW:
        yield f"! {len(audit.notes) - FEW} more notes: --json or --html tells them"
    touched = sorted((one for one in audit.topics if one.touched), key=lambda one: (-one.touched, one.name))
    if touched:
        yield ""
        yield from _topics(touched)
        yield ""
    yield from _listed("fields", audit.fields)
    yield from _listed("moved", audit.moves)
    yield from _listed("removed", audit.rejected)
    yield from _listed("added", {f"was {why}" if ": " in why else why: n for why, n in audit.returned.items()})
    yield from _figures(a, b)
    if audit.causes:
        yield ""
        yield from _causes(audit)
    if audit.scores:
        yield ""
        scores = audit.scores
        same = scores.test_before == scores.test_after == scores.test_shared
        told = f"{scores.test_before:,} → {scores.test_after:,} test questions, {scores.test_shared:,} in both"
        yield f"scores   {told}{'' if same else ': accuracies are of different questions'}"
        yield from _variants(scores.variants)


def _topics(touched: list[Effect]) -> Iterator[str]:
    wide = max(len("topic"), *(len(one.name[0]) for one in touched[:TOPICS]))
    yield f"{'topic':<{wide}}  {'before':>7} {'after':>7}  {'added':>7} {'removed':>7} {'changed':>7} {'moved':>7}"
    for one in touched[:TOPICS]:
        counts = " ".join(f"{getattr(one, name) or '·':>7}" for name in SHARED_BY)
        yield f"{one.name[0]:<{wide}}  {one.before:>7} {one.after:>7}  {counts}"
    if rest := touched[TOPICS:]:
        yield f"and {len(rest)} more topics with {sum(one.touched for one in rest):,} changes"


def _listed(name: str, counts: Mapping[str, int]) -> Iterator[str]:
    if counts:
        first = list(counts.items())
        shown = " · ".join(f"{what} {count:,}" for what, count in first)
        while len(first) > 1 and len(shown) > COLUMNS - 10:
            left = len(counts) - len(first) + 1
            first = first[:-1]
            shown = " · ".join(f"{what} {count:,}" for what, count in first) + f" · {left} more kinds"
        yield f"{name:<8} {shown}"


def _figures(a: Figures, b: Figures) -> Iterator[str]:
    shares = [
        "  ".join(f"{letter} {count / max(1, one.records):.1%}" for letter, count in one.letters.items())
        for one in (a, b)
    ]
    yield f"letters  {_both(*shares)}"
    spans = [
        [f"{part[1]:.0f} ({part[0]:.0f}–{part[2]:.0f})" if part else "–" for part in (one.question, one.chain)]
        for one in (a, b)
    ]
    lengths = (_both(spans[0][part], spans[1][part]) for part in (0, 1))
    yield "length   question {}; chain {} characters, median (5 %–95 %)".format(*lengths)
    neutral = [f"{one.neutrality:.3f}" if one.neutrality is not None else "–" for one in (a, b)]
    rejects = [f"{sum(one.rejects.get('dedup', {}).values()):,}" for one in (a, b)]
    repaired = [f"{one.repaired:,}" for one in (a, b)]
    yield f"quality  neutrality {_both(*neutral)}; duplicates {_both(*rejects)}; repaired {_both(*repaired)}"
    reviews = [one.review for one in (a, b)]
    if any(reviews):
        said = [
            f"{one.reviewed} reviewed, {one.accepted} accepted, {one.rejected} rejected, {one.edited} edited, "
            f"{one.stale} stale"
            if one
            else "none"
            for one in reviews
        ]
        yield f"review   {_both(*said)}"


def _both(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _causes(audit: Audit) -> Iterator[str]:
    yield "what may be responsible"
    at_work = [cause for cause in audit.causes if cause.ran and cause.reach != "nothing"]
    code = [cause for cause in at_work if cause.kind == "code"]
    told = [cause for cause in at_work if cause.kind != "code"]
    effects = {effect.name[0]: effect for effect in audit.topics}
    for cause in told[:CAUSES]:
        yield f"  {described(cause)}{_effect(cause, effects, audit.rejected)}"
    if len(told) > CAUSES:
        yield f"  and {len(told) - CAUSES} more: --json or --html tells them"
    if code:
        stages = sorted({stage for cause in code for stage in cause.stages})
        yield f"  code of {', '.join(stages)}: {', '.join(cause.what for cause in code)}"
    idle = [cause.what for cause in audit.causes if cause.reach == "nothing"]
    if idle:
        yield f"  no data depends on {', '.join(idle)}"
    across = [one.topic for one in audit.explained if one.across]
    if across:
        yield f"  no cause of their own, but rows of all topics are compared: {', '.join(across)}"
    unexplained = [one.topic for one in audit.explained if not one.own and not one.common and not one.across]
    if unexplained:
        yield f"  no cause found: {', '.join(unexplained)}"


def described(cause: Cause) -> str:
    """Return a cause in words."""
    reach = " (scores alone)" if cause.reach == "scores" else ""
    if cause.kind == "param":
        return f"{cause.what} {cause.before or 'not there'} → {cause.after or 'not there'}{reach}"
    return f"{cause.kind} {cause.what}{reach}"


def _effect(cause: Cause, effects: Mapping[str, Effect], rejected: Mapping[str, int]) -> str:
    """Return what happened where a cause is at work."""
    if cause.reach == "scores" or cause.topics == ():
        return ""
    if cause.topics is None:
        dropped = {
            stage: sum(rejected[why] for why in rejected if why.startswith(f"{stage}:")) for stage in cause.stages
        }
        said = "".join(f"; {count:,} dropped by {stage}" for stage, count in dropped.items() if count)
        return f": all topics{said}"
    found = [effects[topic] for topic in cause.topics if topic in effects]
    counts = [(name, sum(getattr(one, name) for one in found)) for name in SHARED_BY]
    said = ", ".join(f"{count:,} {name}" for name, count in counts if count) or "nothing changed"
    return f": {', '.join(cause.topics)}, {said}"


def _variants(variants: tuple[Variant, ...]) -> Iterator[str]:
    wide = max(8, *(len(variant.name) for variant in variants[:FEW]))
    yield f"{'':<{wide}} {'before':<21} {'after':<21} of those in both that both answered"
    for variant in variants[:FEW]:
        shared = ""
        if variant.shared:
            low, high = variant.shared.interval95
            one, other = variant.shared.before, variant.shared.after
            difference = f"{variant.shared.difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            shared = f"{one.n:,}: {one.accuracy:.3f} → {other.accuracy:.3f}, {difference}"
        yield f"{variant.name:<{wide}} {_accuracy(variant.before):<21} {_accuracy(variant.after):<21} {shared}".rstrip()
    if len(variants) > FEW:
        yield f"and {len(variants) - FEW} more: --json or --html tells them"


def _accuracy(found: Accuracy | None) -> str:
    if found is None:
        return "–"
    low, high = found.wilson95
    return f"{found.accuracy:.3f} [{low:.3f}, {high:.3f}]"


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option("--json", "as_json_", is_flag=True, help="One JSON document, with every record that is not the same.")
@click.option("--html", "html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="One page.")
def main(a: str, b: str | None, as_json_: bool, html: Path | None) -> None:
    """Tell what became of the bank of A in B.

    Each is a git revision, tag, branch, experiment of DVC or `workspace`, which is what B is if it is not given.
    """
    compared = differences(version(a), version(b))
    if html is not None:
        from curate.auditing.page import page

        try:
            with whole(html) as file:
                file.write(page(compared).encode())
        except OSError as error:
            raise Fault(f"{html}: {error.strerror}; give another file") from None
    if as_json_:
        for piece in as_json(compared):
            click.echo(piece, nl=False)
    else:
        for line in lines(compared.audit):
            click.echo(line)
    if html is not None:
        click.echo(f"audit: {html} written", err=as_json_)


if __name__ == "__main__":
    main()
