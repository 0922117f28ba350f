"""What each of the scripts beside this one is told, and what it hands back.

PYTHON with_….py REQUESTS BASE_URL CONCURRENCY REPLIES: REQUESTS holds a chat completion's body a line, REPLIES gets the
text of a reply a line, in any order. A request without a reply has no line.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "benchmark"
TIMEOUT = 120  # seconds for a call, where a tool lets it be set; params.yaml has the same
RETRIES = 10  # likewise
AMPLE = 10**9  # a rate that is no limit


@dataclass(frozen=True)
class Job:
    """A script's arguments."""

    bodies: list[dict[str, Any]]
    base_url: str
    concurrency: int
    out: Path

    @property
    def model(self) -> str:
        """The model to ask; the same for all."""
        return str(self.bodies[0]["model"])

    @property
    def settings(self) -> dict[str, Any]:
        """What the bodies say beside model and messages; the same for all."""
        return {name: value for name, value in self.bodies[0].items() if name not in ("model", "messages")}

    def write(self, replies: Iterable[str | None]) -> None:
        """Write the texts that came."""
        with open(self.out, "w", encoding="utf-8") as file:
            for text in replies:
                if text is not None:
                    file.write(json.dumps(text) + "\n")


def read() -> Job:
    """Return what the command line asks for."""
    requests, base_url, concurrency, out = sys.argv[1:5]
    lines = Path(requests).read_text(encoding="utf-8").splitlines()
    return Job([json.loads(line) for line in lines], base_url, int(concurrency), Path(out))
