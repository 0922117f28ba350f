"""Write `*.schema.json`, the contract of record.SCHEMAS for other languages: `python -m schemas.export`."""

from pathlib import Path
from typing import Any

import msgspec

from schemas.record import SCHEMAS
from schemas.rows import write_json

FOLDER = Path(__file__).parent


def document(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one of SCHEMAS."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(SCHEMAS[name])}


def main(folder: Path = FOLDER) -> None:
    """Write every document into a folder."""
    for name in SCHEMAS:
        write_json(folder / f"{name}.schema.json", document(name))


if __name__ == "__main__":
    main()
