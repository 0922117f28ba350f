"""A record that a stage drops, kept with its reason and as it was."""

from schemas.record import Record, Reject


def reject(stage: str, record: Record, line: bytes, reason: str, detail: str, kept: str | None = None) -> Reject:
    """Return the row for a record that stood in this line; `kept` is the id of the row that stays in its place."""
    return Reject(
        id=record.id, topic=record.topic, stage=stage, reason=reason, detail=detail, kept=kept, raw=line.decode()
    )
