"""TRL's copy of an adapter as it was before training, beside the one that is trained."""

from typing import Any

NAME = "ref"
"""What TRL calls it, in GRPO with a `beta` and in DPO."""


def forget(network: Any) -> None:
    """Remove the copy, if there is one: a second trainer makes its own, and it is not to be saved."""
    if NAME in getattr(network, "peft_config", {}):
        network.delete_adapter(NAME)
