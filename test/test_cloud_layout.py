from __future__ import annotations

import array
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmde_ros.cloud_layout import colored_points, pack_cloud, unpack_cloud
from fsmde_ros.errors import SourceError

XYZ = [("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1)]


def test_packs_as_a_c_compiler_does() -> None:
    """A float is where a pointer to float may point, in every point."""
    fields, step, data = pack_cloud(
        {
            "view": np.array([7, 8], dtype=np.uint8),
            "x": np.array([1.5, -2], dtype=np.float32),
            "ring": np.array([3, 65535], dtype=np.uint16),
        }
    )
    assert fields == [("view", 0, 2, 1), ("x", 4, 7, 1), ("ring", 8, 4, 1)]
    assert step == 12
    assert data == struct.pack("<BxxxfHxxBxxxfHxx", 7, 1.5, 3, 8, -2, 65535)


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_either_endianness(order: str) -> None:
    fields = [SimpleNamespace(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate(["x", "y", "z", "rgb"])]
    message = SimpleNamespace(fields=fields, point_step=16, row_step=16, width=1, height=1, is_bigendian=order == ">")
    message.data = array.array("B", struct.pack(f"{order}fffI", 1, 2, 3, 0xFF8020))
    points, colors = colored_points(message)
    np.testing.assert_array_equal(points, [[1, 2, 3]])
    np.testing.assert_array_equal(colors, [[255, 128, 32]])


@pytest.mark.parametrize("order", ["<", ">"])
def test_unpacks_padded_rows_and_points_of_either_endianness(order: str) -> None:
    # 2 rows of 3 points of 8 bytes: u2 at 1, f4 at 4; rows of 30 bytes
    data, expected = b"", []
    for row in range(2):
        for column in range(3):
            expected.append((row * 10 + column, row + column / 4))
            data += struct.pack(f"{order}xHxf", *expected[-1])
        data += b"\xee" * 6
    fields = [("", 0, 2, 1), ("ring", 1, 4, 1), ("x", 4, 7, 0)]
    columns = unpack_cloud(fields, 8, 30, 3, 2, order == ">", array.array("B", data))
    assert list(columns) == ["ring", "x"]
    np.testing.assert_array_equal(columns["ring"], [e[0] for e in expected])
    np.testing.assert_array_equal(columns["x"], [e[1] for e in expected])


def test_unpacks_fields_of_several_values() -> None:
    columns = unpack_cloud([("n", 0, 7, 3)], 12, 0, 2, 1, False, struct.pack("<6f", *range(6)))
    np.testing.assert_array_equal(columns["n"], [[0, 1, 2], [3, 4, 5]])


@given(st.lists(st.tuples(st.floats(width=32, allow_nan=False), st.integers(0, 65535)), max_size=20))
def test_round_trip(points: list[tuple[float, int]]) -> None:
    columns = {
        "a": np.array([p[0] for p in points], dtype=np.float32),
        "b": np.array([p[1] for p in points], dtype=np.uint16),
        "c": np.array([p[0] for p in points], dtype=np.float64),
    }
    fields, step, data = pack_cloud(columns)
    result = unpack_cloud(fields, step, step * len(points), len(points), 1, False, data)
    for name, column in columns.items():
        np.testing.assert_array_equal(result[name], column)


@pytest.mark.parametrize(
    ("fields", "point_step", "row_step", "width", "height", "size", "message"),
    [
        (XYZ, 12, 24, 2, 1, 23, "truncated"),
        (XYZ, 12, 12, 2, 1, 24, "truncated"),
        (XYZ, 12, 24, 2, 3, 60, "truncated"),
        (XYZ, 12, 24, -2, -1, 24, "points, expected 0 to"),
        (XYZ, 12, 0, 100_000, 100_000, 24, "points, expected 0 to"),
        (XYZ, 11, 22, 2, 1, 22, "'z' of the cloud has 1 values of 4 bytes at offset 8, outside the 11"),
        ([("x", -4, 7, 1)], 12, 12, 1, 1, 12, "at offset -4"),
        ([("x", 0, 9, 1)], 12, 12, 1, 1, 12, "datatype 9, expected"),
        ([("x", 0, 7, 1), ("x", 4, 7, 1)], 12, 12, 1, 1, 12, "two fields 'x'"),
        ([("", 0, 7, 1)], 12, 12, 1, 1, 12, "with 0 fields"),
    ],
)
def test_refuses_nonsense(
    fields: list[tuple[str, int, int, int]],
    point_step: int,
    row_step: int,
    width: int,
    height: int,
    size: int,
    message: str,
) -> None:
    with pytest.raises(SourceError, match=message):
        unpack_cloud(fields, point_step, row_step, width, height, False, bytes(size))


def test_refuses_columns_that_are_no_cloud() -> None:
    with pytest.raises(ValueError, match="one length"):
        pack_cloud({"x": np.zeros(2), "y": np.zeros(3)})
    with pytest.raises(ValueError, match="no field of type int64"):
        pack_cloud({"x": np.zeros(2, dtype=np.int64)})
    with pytest.raises(ValueError, match="one length"):
        pack_cloud({})
