"""Layers compiled for training."""

from typing import Any

import click


def compile_layers(model: Any) -> None:
    """Compile each decoder layer in place; on a CPU say that nothing is compiled.

    All layers are one program, so it takes seconds where the whole model takes minutes, and nearly all the time of a
    step is spent in them.
    """
    import torch

    if model.device.type != "cuda":
        click.echo("compile: nothing is compiled without a GPU")
        return
    # The first two batches of unlike length are two programs, the second for any length.
    torch._dynamo.config.recompile_limit = 32
    for layer in model.get_decoder().layers:
        layer.compile(dynamic=True)
