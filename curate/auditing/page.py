"""An audit as one HTML page: figures, tables to sort and filter, plots, examples of each kind of change."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from curate.auditing.causes import Cause
from curate.auditing.changes import BIT, FIELDS, SIDES, Bank, Numbers, Read, names
from curate.auditing.differences import About, Audit, Compared, Effect, Figures
from curate.auditing.fates import Fate
from curate.auditing.scored import Accuracy
from schemas import page as pages
from schemas.page import Bars, Details, Diff, Facts, Part, Section, Table, Words
from schemas.record import LETTERS

EXAMPLES = 5  # of each kind
METRICS = 1000  # numbers of metrics files that are told
TEXTS = ("question", "options", "answer", "think", "steps", "reflection", "adjustment")
PLACE = ("topic", "difficulty", "type", "teacher", "repairs")
COUNTS = ("{:,}", "{:,}", "{:+,}", "{:,}", "{:,}", "{:,}", "{:,}", "{:,}")
HEADS = ("before", "after", "difference", "added", "removed", "of those rejected", "changed", "moved")


def page(compared: Compared) -> str:
    """Return the page."""
    told = compared.audit
    sections = [
        Section("What changed", tuple(_summary(told))),
        Section("Where", tuple(_where(told))),
        Section("What may be responsible", tuple(_causes(told))),
        Section("Figures", tuple(_figures(told))),
        Section("Scores", tuple(_scores(told))),
        Section("Examples", tuple(_examples(compared))),
    ]
    title = f"Audit: {told.a.name} → {told.b.name}"
    return pages.page(title, f"{_about(told.a)} → {_about(told.b)}", sections)


def _about(each: About) -> str:
    commit = f" {each.commit[:7]}" if each.commit and not each.commit.startswith(each.name) else ""
    return f"{each.name}{commit}" + (f" ({each.about})" if each.about else "")


# --- what changed --------------------------------------------------------------------------------------------------


def _summary(told: Audit) -> Iterator[Part]:
    a, b = told.before, told.after
    share = f"of {a.records:,}"
    yield Facts(
        (
            ("records", f"{b.records:,}", f"{b.records - a.records:+,}; {a.records:,} before"),
            ("the same", f"{told.unchanged:,}", share),
            ("changed", f"{told.changed:,}", f"{told.new_id:,} found under another id"),
            ("added", f"{told.added:,}", f"of {b.records:,}"),
            ("removed", f"{told.removed:,}", share),
            ("moved", f"{told.moved:,}", "from one side to another"),
        )
    )
    if told.notes:
        yield Words(told.notes)
    if told.fields:
        note = "A record may have changed in several. Options reordered: the same texts, the chain led along."
        yield Table("Changed, field by field", ("field", "records"), tuple(told.fields.items()), ("", "{:,}"), note)
    if told.moves:
        yield Table("Moved", ("from → to", "records"), tuple(told.moves.items()), ("", "{:,}"))
    if told.rejected:
        note = "Not asked: there is no reply of that id any more. Not known: the files that would tell are not there."
        yield Table("Where the removed went", ("why", "records"), tuple(told.rejected.items()), ("", "{:,}"), note)
    if told.returned:
        caption = "Where the added had been"
        yield Table(caption, ("before", "records"), tuple(told.returned.items()), ("", "{:,}"))


def _where(told: Audit) -> Iterator[Part]:
    touched = [one for one in told.topics if one.touched]
    topics = tuple(one.name[0] for one in told.topics)
    yield Bars(
        "Records of each topic",
        topics,
        {
            "before": tuple(float(one.before) for one in told.topics),
            "after": tuple(float(one.after) for one in told.topics),
        },
    )
    yield Table(
        "By topic", ("topic", *HEADS), tuple(_row(one) for one in told.topics), ("", *COUNTS), heat=(4, 5, 7, 8)
    )
    if touched:
        cells = tuple(_row(one) for one in told.cells if one.touched)
        caption = "By topic, difficulty and type"
        note = f"The cells in which something changed: {len(cells):,} of {len(told.cells):,}."
        columns = ("topic", "difficulty", "type", *HEADS)
        yield Table(caption, columns, cells, ("", "", "", *COUNTS), note, heat=(6, 7, 9, 10))


def _row(one: Effect) -> tuple[str | int, ...]:
    counts = one.added, one.removed, one.rejected, one.changed, one.moved
    return (*one.name, one.before, one.after, one.after - one.before, *counts)


# --- what may be responsible ---------------------------------------------------------------------------------------


def _causes(told: Audit) -> Iterator[Part]:
    if not told.causes:
        yield Words(("No setting, prompt, fact sheet or code that stages depend on differs.",))
    else:
        note = "Reach: whether the first stage that depends on it comes before the bank, or only before the scores."
        heads = ("kind", "what", "before", "after", "topics", "stages", "reach", "run with it")
        yield Table("What differs", heads, tuple(map(_cause, told.causes)), note=note)
        for cause in told.causes:
            if cause.lines:
                yield Details(f"{cause.what}: the lines that differ", (Words(cause.lines),))
    if told.explained:
        effects = {one.name[0]: one for one in told.topics}
        rows = []
        for one in told.explained:
            effect = effects[one.topic]
            own = ", ".join(one.own)
            common = "causes for all topics" if one.common else "comparison with other topics" if one.across else ""
            why = "; ".join(filter(None, (own, common))) or "no cause found"
            rows.append((one.topic, effect.added, effect.removed, effect.changed, effect.moved, why))
        columns = ("topic", "added", "removed", "changed", "moved", "what may be responsible")
        yield Table("Topics and their causes", columns, tuple(rows), ("", *["{:,}"] * 4))
    if told.decisions:
        verdicts = sorted({*told.decisions.before, *told.decisions.after})
        rows_ = tuple(
            (name, told.decisions.before.get(name, 0), told.decisions.after.get(name, 0)) for name in verdicts
        )
        note = f"{told.decisions.added:,} lines came, {told.decisions.removed:,} went."
        yield Table("Reviewers' decisions", ("verdict", "before", "after"), rows_, note=note)
    reviews = [(name, each.review) for name, each in (("before", told.before), ("after", told.after)) if each.review]
    if reviews:
        counted = tuple((name, r.reviewed, r.accepted, r.rejected, r.edited, r.stale) for name, r in reviews)
        heads_ = ("version", "reviewed", "accepted", "rejected", "edited", "stale")
        yield Table("As the gate counted them", heads_, counted)


def _cause(cause: Cause) -> tuple[str | None, ...]:
    topics = "all" if cause.topics is None else ", ".join(cause.topics)
    ran = "yes" if cause.ran else "not yet"
    return cause.kind, cause.what, cause.before, cause.after, topics, ", ".join(cause.stages), cause.reach, ran


# --- figures -------------------------------------------------------------------------------------------------------


def _figures(told: Audit) -> Iterator[Part]:
    a, b = told.before, told.after
    letters: dict[str, tuple[float | None, ...]] = {
        name: tuple(_share(one.letters[x], one.records) for x in LETTERS) for name, one in _two(a, b)
    }
    yield Bars("Answer letters", LETTERS, letters, unit="%")
    columns = ("of", "version", "5 %", "median", "95 %")
    rows = [
        (part, name, *getattr(one, part)) for part in ("question", "chain") for name, one in _two(a, b) if one.records
    ]
    yield Table("Lengths in characters", columns, tuple(rows), ("", "", "{:,.0f}", "{:,.0f}", "{:,.0f}"))
    for part in ("question", "chain"):
        lengths = {name: getattr(one, part) for name, one in _two(a, b) if one.records}
        yield Bars(f"Characters of a {part}", ("5 %", "median", "95 %"), lengths)
    quality = (
        ("neutrality, mean over chains", a.neutrality, b.neutrality),
        ("repaired records", a.repaired, b.repaired),
        *((f"side {side}", a.sides[side], b.sides[side]) for side in SIDES),
    )
    yield Table("Quality and sides", ("what", "before", "after"), quality)
    whys = sorted({(stage, why) for one in (a, b) for stage, whys in one.rejects.items() for why in whys})
    if whys:
        counts = tuple(
            (stage, why, a.rejects.get(stage, {}).get(why, 0), b.rejects.get(stage, {}).get(why, 0))
            for stage, why in whys
        )
        caption = "Rejected, duplicates among them"
        yield Table(caption, ("stage", "reason", "before", "after"), counts, ("", "", "{:,}", "{:,}"))
    for caption, before, after in (("Repairs", a.repairs, b.repairs), ("Teachers", a.teachers, b.teachers)):
        if keys := sorted({*before, *after}):
            counts_ = tuple((key, before.get(key, 0), after.get(key, 0)) for key in keys)
            yield Table(caption, ("name", "before", "after"), counts_, ("", "{:,}", "{:,}"))


def _two(a: Figures, b: Figures) -> tuple[tuple[str, Figures], ...]:
    return ("before", a), ("after", b)


def _share(count: int, of: int) -> float:
    return round(100 * count / max(1, of), 2)


def _scores(told: Audit) -> Iterator[Part]:
    found = told.scores
    if found is None:
        yield Words(("Neither version has scores.",))
    else:
        same = found.test_before == found.test_after == found.test_shared
        tests = (
            f"{found.test_before:,} test questions before, {found.test_after:,} after, {found.test_shared:,} in both. "
        )
        warning = "The tests are the same." if same else "The tests differ: the accuracies are of different questions."
        yield Words((tests + warning,))
        columns = ("variant", "before", "95 %", "after", "95 %", "difference")
        rows = tuple(
            (one.name, *_accuracy(one.before), *_accuracy(one.after), one.difference) for one in found.variants
        )
        formats = ("", "{:.3f}", "", "{:.3f}", "", "{:+.3f}")
        yield Table("As they were scored", columns, rows, formats)
        shared = tuple(
            (
                one.name,
                one.shared.before.n,
                one.shared.before.accuracy,
                one.shared.after.accuracy,
                one.shared.difference,
                "[{:+.3f}, {:+.3f}]".format(*one.shared.interval95),
            )
            for one in found.variants
            if one.shared
        )
        if shared:
            note = "The test questions of both versions that both models answered; the interval is for paired shares."
            columns = ("variant", "questions", "before", "after", "difference", "95 %")
            formats = ("", "{:,}", "{:.3f}", "{:.3f}", "{:+.3f}", "")
            yield Table("On the same questions", columns, shared, formats, note)
    if told.metrics:
        rows_ = tuple((one.file, one.key, one.before, one.after) for one in told.metrics[:METRICS])
        more = len(told.metrics) - len(rows_)
        note = f"{more:,} more are in the JSON." if more else ""
        table = Table("Numbers of metrics files that differ", ("file", "key", "before", "after"), rows_, note=note)
        yield Details(f"{len(told.metrics):,} numbers of metrics files differ", (table,))


def _accuracy(found: Accuracy | None) -> tuple[float | None, str | None]:
    return (found.accuracy, "[{:.3f}, {:.3f}]".format(*found.wilson95)) if found else (None, None)


# --- examples ------------------------------------------------------------------------------------------------------


def _examples(compared: Compared) -> Iterator[Part]:
    """Yield up to EXAMPLES records of each kind of change, of as many topics as may be: the same ones each time."""
    a, b, changes = compared.a, compared.b, compared.changes
    rejected = np.array([fate.end == "rejected" for fate in compared.gone], bool)
    there = False
    for title, bank, rows, fates, is_new in (
        ("Added", b, changes.added, compared.been, True),
        ("Newly rejected", a, changes.removed[rejected], _those(compared.gone, rejected), False),
        ("Removed otherwise", a, changes.removed[~rejected], _those(compared.gone, ~rejected), False),
    ):
        if len(rows):
            there = True
            diffs = [_single(bank, int(rows[n]), fates[n], is_new) for n in spread(bank, rows)]
            yield Details(f"{title}: {len(diffs):,} of {len(rows):,}", tuple(diffs))
    shown: set[int] = set()
    for name in sorted(compared.audit.fields, key=lambda name: (compared.audit.fields[name], FIELDS.index(name))):
        pairs = np.flatnonzero(changes.fields & BIT[name])
        fresh = np.array([pair for pair in pairs.tolist() if pair not in shown], np.int64)
        picked = fresh[spread(b, changes.b[fresh])].tolist()
        if picked:
            there = True
            shown |= set(picked)
            diffs = [_pair(a, b, int(changes.a[n]), int(changes.b[n]), int(changes.fields[n])) for n in picked]
            title = "Moved to another side" if name == "side" else f"Changed: {name}"
            yield Details(f"{title}: {len(diffs):,} of {len(pairs):,}", tuple(diffs))
    if not there:
        yield Words(("No record changed.",))


def spread(bank: Bank, rows: Numbers) -> NDArray[np.int64]:
    """Return the places of up to EXAMPLES of some rows, by the hash of their ids, a topic after the other."""
    topics = [bank.coded.cells.all[cell][0] for cell in bank.topics(rows).tolist()]
    queues: dict[str, list[int]] = defaultdict(list)
    order = np.lexsort((np.arange(len(rows)), bank.rows["line"][rows], bank.rows["id"][rows]))
    for place in order.tolist():
        if len(queues[topics[place]]) < EXAMPLES:
            queues[topics[place]].append(place)
    turns = sorted((turn, n) for n, queue in enumerate(queues.values()) for turn in range(len(queue)))
    queued = list(queues.values())
    return np.array([queued[n][turn] for turn, n in turns[:EXAMPLES]], np.int64)


def _those(fates: Sequence[Fate], wanted: Iterable[bool]) -> list[Fate]:
    return [fate for fate, is_wanted in zip(fates, wanted, strict=True) if is_wanted]


def _single(bank: Bank, row: int, fate: Fate, is_new: bool) -> Diff:
    record = bank.record(row)
    if is_new:
        why = f"before: {fate}" if fate.end == "rejected" else "new" if fate.end == "not asked" else "before: not known"
    else:
        why = f"now: {fate}"
    detail = f"; {fate.detail}" if fate.detail else ""
    kept = f"; kept instead: {fate.kept}" if fate.kept else ""
    about = f"{_cell(record)}, {SIDES[bank.rows['side'][row]]}; {why}{detail}{kept}"
    texts = ((name, _text(record, name)) for name in TEXTS)
    fields = tuple((name, text, text) for name, text in texts if text)  # plain: the heading says that all of it is new
    return Diff(record.id, about, fields)


def _pair(a: Bank, b: Bank, old: int, new: int, bits: int) -> Diff:
    before, after = a.record(old), b.record(new)
    sides = SIDES[a.rows["side"][old]], SIDES[b.rows["side"][new]]
    moved = sides[0] if sides[0] == sides[1] else f"{sides[0]} → {sides[1]}"
    title = before.id if before.id == after.id else f"{before.id} → {after.id}"
    changed = [name for name in PLACE if getattr(before, name) != getattr(after, name)]
    fields = tuple((name, _text(before, name), _text(after, name)) for name in (*TEXTS, *changed))
    about = f"{_cell(after)}, {moved}; changed: {', '.join(names(bits))}"
    return Diff(title, about, tuple(field for field in fields if field[1] or field[2]))


def _cell(record: Read) -> str:
    return f"{record.topic} × {record.difficulty} × {record.type}"


def _text(record: Read, name: str) -> str:
    value = getattr(record, name)
    if name == "options":
        return "\n".join(f"{LETTERS[n] if n < 4 else n + 1}. {text}" for n, text in enumerate(value))
    if name == "steps":
        return "\n".join(f"{n}. {text}" for n, text in enumerate(value, 1))
    return ", ".join(value) if isinstance(value, tuple) else value or ""
