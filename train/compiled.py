"""Layers compiled for training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


def compile_layers(model: Any) -> None:
    """Compile each decoder layer in place; on a CPU say that nothing is compiled.

    All layers are one program, which takes about a minute to make; nearly all the time of a step is spent in them.
    """
    import torch

    if model.device.type != "cuda":
        click.echo("compile: nothing is compiled without a GPU")
        return
    # The first two batches of unlike length are two programs, the second for any length.
    torch._dynamo.config.recompile_limit = 32
    # The first layer reads embeddings, which nobody trains; a program of its own for it would double the wait.
    model.enable_input_require_grads()
    for layer in model.get_decoder().layers:
        layer.compile()


@contextmanager
def as_written(model: Any) -> Iterator[None]:
    """Lend a model its layers as they were written; compiled, they would be so anew for each length of a cache."""
    compiled = [(part, part._compiled_call_impl) for part in model.modules() if part._compiled_call_impl is not None]
    for part, _ in compiled:
        part._compiled_call_impl = None
    try:
        yield
    finally:
        for part, call in compiled:
            part._compiled_call_impl = call
