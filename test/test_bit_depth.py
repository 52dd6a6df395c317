"""Sensors of fewer than 16 bits, whose drivers leave the upper bits of a value empty, or the lower ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fsmde_ros.bit_depth import BitDepth

PICTURE = np.arange(256, dtype=np.uint16).reshape(8, 32)  # what 8 bits of the sensor would show


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("order", "<>")
def test_the_upper_8_of_the_bits_of_a_sensor_come_out(bits: int, order: str) -> None:
    below = (1 << (bits - 8)) - 1  # noise in the bits that are given up
    stored = (PICTURE << (bits - 8) | below).astype(order + "u2")
    shown = BitDepth().to_8_bits(stored)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, PICTURE)


def test_values_that_a_driver_has_shifted_up_fill_16_bits() -> None:
    np.testing.assert_array_equal(BitDepth().to_8_bits(PICTURE << 8), PICTURE)


def test_the_bits_never_become_fewer_and_are_told_when_they_become_more() -> None:
    told: list[int] = []
    depth = BitDepth(told.append)
    assert not depth.to_8_bits(np.zeros((2, 3), np.uint16)).any()
    assert told == []  # a covered lens
    assert depth.to_8_bits(np.array([[1023]], np.uint16)) == 255
    assert depth.to_8_bits(np.array([[4000]], np.uint16)) == 250
    assert depth.to_8_bits(np.array([[1023]], np.uint16)) == 63  # dark, as it was
    assert depth.to_8_bits(np.array([[4095]], np.uint16)) == 255
    assert told == [10, 12]
    assert depth.to_8_bits(np.zeros((0, 3), np.uint16)).shape == (0, 3)


def test_images_of_a_camera_that_are_decoded_at_the_same_time() -> None:
    told: list[int] = []
    depth = BitDepth(told.append)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: depth.to_8_bits(np.full((50, 50), value, np.uint16)), [300, 5000, 2000] * 50))
    assert len(told) == len(set(told))
    assert max(told) == 14
    assert depth.to_8_bits(np.array([[300]], np.uint16)) == 300 >> 6
