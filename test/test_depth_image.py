from __future__ import annotations

import array

import numpy as np
import pytest

from fsmde_ros.depth_image import decode_depth
from fsmde_ros.errors import ImageError
from fsmde_ros.images import MAX_PIXELS

METRES = np.array([[1.5, np.nan, np.inf], [0.25, 65.535, 70.0]], np.float32)
MILLIMETRES = np.array([[1500, 0, 3], [250, 65535, 1]], np.uint16)
EXPECTED = {
    "32FC1": METRES,
    "16UC1": np.array([[1.5, np.nan, 0.003], [0.25, 65.535, 0.001]], np.float32),
}


@pytest.mark.parametrize("encoding", EXPECTED)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("padding", [0, 5])
def test_both_encodings_in_both_byte_orders_with_and_without_padding(encoding: str, order: str, padding: int) -> None:
    values = METRES if encoding == "32FC1" else MILLIMETRES
    rows = values.astype(values.dtype.newbyteorder(order)).view(np.uint8).reshape(2, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    data = padded.tobytes()[: padded.size - padding]  # the last row may lack it
    for given in (data, array.array("B", data), np.frombuffer(data, np.uint8)):
        found = decode_depth(encoding, 2, 3, padded.shape[1], order == ">", given)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, EXPECTED[encoding], rtol=1e-6)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "size", "message"),
    [
        ("rgb8", 2, 3, 12, 24, r"must be 32FC1 \(metres\) or 16UC1 \(mm\), got 'rgb8'"),
        ("32FC1", 2, 3, 12, 23, "has 23 bytes with step 12, expected 2 rows of at least 12 bytes"),
        ("32FC1", 2, 3, 11, 24, "with step 11"),
        ("32FC1", 2, 3, 0, 24, "with step 0"),
        ("16UC1", 2, 0, 0, 0, "is 0x2 pixels, expected 1x1 to"),
        ("16UC1", 100_000, 100_000, 200_000, 24, "is 100000x100000"),
        ("16UC1", 1, 1, 2, 0, "has 0 bytes"),
        ("16UC1", 1, MAX_PIXELS, 2 * MAX_PIXELS, 0, "has 0 bytes"),
    ],
)
def test_data_that_does_not_fill_the_image_is_refused(
    encoding: str, height: int, width: int, step: int, size: int, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        decode_depth(encoding, height, width, step, False, bytes(size))
