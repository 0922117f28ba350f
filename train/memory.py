"""GPU memory: what is taken, what is free, how many rows fit."""

GIB = 2**30

ROWS = ((20, 8), (16, 6), (12, 4), (8, 2))
"""GiB free and the rows at once that they bear: more than the first, at least the others."""


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


def free() -> int | None:
    """Return the bytes that this process can still take on its GPU, those that torch holds unused too; None without."""
    import torch

    if not torch.cuda.is_available():
        return None
    on_device, _ = torch.cuda.mem_get_info()
    return int(on_device + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def release(above: float) -> bool:
    """Give what torch holds unused back to the GPU if torch holds more than this share of it; return whether it did."""
    import torch

    if not torch.cuda.is_available():
        return False
    _, whole = torch.cuda.mem_get_info()
    if torch.cuda.memory_reserved() <= above * whole:
        return False
    torch.cuda.empty_cache()
    return True


def batch_size(free_bytes: int) -> int:
    """Return the rows to answer at once with so much memory free."""
    (most, rows), *others = ROWS
    if free_bytes > most * GIB:
        return rows
    return next((rows for least, rows in others if free_bytes >= least * GIB), 1)
