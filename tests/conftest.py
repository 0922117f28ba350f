"""What holds for every test."""

import os
from collections.abc import Iterator
from contextlib import chdir, nullcontext
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Read when the Hub's client is imported, by whichever test comes first; nothing here may wait for a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(autouse=True)
def at_the_root(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run at the root what asks for no project of its own: such a one is where the session stays from then on."""
    with nullcontext() if "project" in request.fixturenames else chdir(ROOT):
        yield
