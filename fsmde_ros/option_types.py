"""Types of command-line options for argparse, which says at once what a value must be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``, by default however large."""
    limits = f"of at least {low}" if high is None else f"of {low} to {high}"

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, got '{text}'")
        return int(text)

    return parse


def above_0(high: float = math.inf) -> Callable[[str], float]:
    """A finite number above 0 and up to ``high``."""
    limits = "finite" if high == math.inf else f"up to {high:g}"

    def parse(text: str) -> float:
        value = number(text)
        if not 0 < value <= high or value == math.inf:  # so that NaN is refused
            raise argparse.ArgumentTypeError(f"must be a number above 0 and {limits}, got '{text}'")
        return value

    return parse


def finite(text: str) -> float:
    """A finite number."""
    value = number(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got '{text}'")
    return value


def image_size(multiple: int = 1) -> Callable[[str], tuple[int, int]]:
    """A size (H, W) in pixels, written as 352x640, both sides a ``multiple``."""
    limits = "" if multiple == 1 else f" in multiples of {multiple}"

    def parse(text: str) -> tuple[int, int]:
        height, _, width = text.partition("x")
        if not all(side.isdecimal() and int(side) > 0 and int(side) % multiple == 0 for side in (height, width)):
            raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH{limits}, as 352x640, got '{text}'")
        return int(height), int(width)

    return parse


def number(text: str) -> float:
    """What a text says, NaN where it is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
