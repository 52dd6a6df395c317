"""What options of the command line may be, and what is said of others."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from fsmde_ros import option_types
from fsmde_ros.option_types import above_0, finite, image_size, whole


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (whole(1), "1", 1),
        (whole(0, 64), "64", 64),
        (above_0(), "1e-3", 0.001),
        (above_0(5), "5", 5.0),
        (finite, "-0.5", -0.5),
        (image_size(), "1x3", (1, 3)),
        (image_size(32), "352x640", (352, 640)),
    ],
)
def test_what_fits_is_taken(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        *((whole(1), text, "must be a whole number of at least 1") for text in ("0", "-1", "1.0", "²", "", "one")),
        (whole(0, 64), "65", "must be a whole number of 0 to 64"),
        *((above_0(), text, "must be a number above 0 and finite") for text in ("0", "-1", "inf", "nan", "ten")),
        (above_0(5), "5.1", "must be a number above 0 and up to 5"),
        *((finite, text, "must be a finite number") for text in ("inf", "nan", "high")),
        *((image_size(), text, "must be HEIGHTxWIDTH, as 352x640") for text in ("0x5", "5", "x", "5x", "²x5", "5x5x5")),
        (image_size(32), "352x641", "must be HEIGHTxWIDTH in multiples of 32"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(parse: Callable[[str], object], text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse(text)
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(f", got '{text}'")


def test_a_number_that_is_none() -> None:
    assert option_types.number("x") != option_types.number("x")
