"""Keep the memory of freed tensors: else eager PyTorch on the CPU spends near half of its time on page faults.

glibc gives large blocks back to the kernel as soon as they are freed, and the kernel fills every page of the next ones
with zeros again. A network asks for the same blocks in every sweep.
"""

from __future__ import annotations

import ctypes

# Options of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
NEVER = 2**30  # bytes; no single block of a network is larger


def keep_freed_memory() -> bool:
    """Let this process keep what it frees: it holds the most that it needed at a time, and what fragments cost.

    All threads allocate from one heap from then on, as only the first can hold large blocks. Returns whether the C
    library can do that: glibc can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    options = ((M_MMAP_THRESHOLD, NEVER), (M_TRIM_THRESHOLD, NEVER), (M_ARENA_MAX, 1))
    return all(mallopt(option, value) for option, value in options)
