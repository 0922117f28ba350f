"""GPU memory: what is taken, what is free."""

GIB = 2**30


def memory() -> dict[str, float] | None:
    """Return GiB of GPU memory allocated, reserved and at the peak; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return {
        "allocated_gib": round(torch.cuda.memory_allocated() / GIB, 2),
        "reserved_gib": round(torch.cuda.memory_reserved() / GIB, 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
    }
