"""The bytes of a ``sensor_msgs/PointCloud2``, without ROS: packing columns and unpacking them.

A cloud lies in memory as ``height`` rows of ``row_step`` bytes, each with ``width`` points of
``point_step`` bytes; every field has an offset within its point. Whole columns are moved at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import SourceError

Field = tuple[str, int, int, int]
"""Name, offset in bytes, datatype (a key of ``DATATYPES``), count."""

# The constants of sensor_msgs/PointField.
DATATYPES: dict[int, str] = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_DATATYPE_OF = {code: number for number, code in DATATYPES.items()}

MAX_POINT_BYTES = 2**16  # real points have some tens of bytes
MAX_POINTS = 2**24  # 16.8 million; a turn of the largest LiDARs is below a million


def pack_cloud(columns: Mapping[str, NDArray[Any]]) -> tuple[list[Field], int, bytes]:
    """Pack columns ``[N]`` into the data of an unorganised little-endian cloud.

    Fields and points are aligned as in C: who reads them through a pointer to float may not be able to elsewhere.

    Args:
        columns: values by field name, in the order of the fields, all of one length; the type of
            a column is the type of its field (8 to 32 bit integers, 32 and 64 bit floats).

    Returns:
        the fields as (name, offset, datatype, count), ``point_step`` in bytes, and the data.

    Raises:
        ValueError: there are no columns, their lengths differ, or a type has no PointField.
    """
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    if len({array.shape for array in arrays.values()}) != 1 or next(iter(arrays.values())).ndim != 1:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"the columns of a cloud must be vectors of one length, got {shapes}")
    codes = {name: array.dtype.str[1:] for name, array in arrays.items()}
    for name, code in codes.items():
        if code not in _DATATYPE_OF:
            raise ValueError(f"column '{name}': a PointCloud2 has no field of type {arrays[name].dtype}")
    point = np.dtype([(name, f"<{code}") for name, code in codes.items()], align=True)
    records = np.zeros(len(next(iter(arrays.values()))), dtype=point)  # zeros also between the fields
    for name, array in arrays.items():
        records[name] = array
    offsets = {name: found[1] for name, found in (point.fields or {}).items()}
    fields = [(name, offsets[name], _DATATYPE_OF[code], 1) for name, code in codes.items()]
    return fields, point.itemsize, records.tobytes()


def unpack_cloud(
    fields: Iterable[Field],
    point_step: int,
    row_step: int,
    width: int,
    height: int,
    is_bigendian: bool,
    data: Any,
    max_points: int = MAX_POINTS,
) -> dict[str, NDArray[Any]]:
    """Columns of a cloud by field name, each ``[height * width]``, row by row.

    ``data`` is anything with a buffer: bytes, ``array.array``, an array of uint8. A field with a
    count above 1 gives ``[height * width, count]``. Fields without a name (padding) are left out.

    Raises:
        SourceError: the sizes contradict each other or the data, a field lies outside its point,
            has an unknown datatype or a name that is there twice, or the cloud has more than
            ``max_points`` points.
    """
    raw = np.frombuffer(data, dtype=np.uint8)
    if width < 0 or height < 0 or width * height > max_points:
        raise SourceError(f"the cloud has {width}x{height} points, expected 0 to {max_points}; check its publisher")
    record = _record_type(fields, point_step, ">" if is_bigendian else "<")
    if width * height == 0:
        return {name: np.zeros(0, dtype=record[name]) for name in record.names or ()}
    row_bytes = width * point_step
    if height == 1 and row_step == 0:  # some drivers leave it out where there is one row
        row_step = row_bytes
    if row_step < row_bytes or len(raw) < row_step * (height - 1) + row_bytes:
        raise SourceError(
            f"the cloud has {len(raw)} bytes with row_step {row_step}, expected {height} rows of at least {row_bytes} "
            f"({width} points of {point_step}); the message is truncated or its publisher is wrong"
        )
    rows = np.lib.stride_tricks.as_strided(raw, (height, row_bytes), (row_step, 1), writeable=False)
    records = np.ascontiguousarray(rows).reshape(-1).view(record)
    return {name: records[name] for name in record.names or ()}


def cloud_columns(message: Any) -> dict[str, NDArray[Any]]:
    """``unpack_cloud`` of a PointCloud2 message, as rclpy or as rosbags makes it: both have the same fields."""
    return unpack_cloud(
        [(field.name, field.offset, field.datatype, field.count) for field in message.fields],
        message.point_step,
        message.row_step,
        message.width,
        message.height,
        bool(message.is_bigendian),
        message.data,
    )


def points_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Points [N, 3] of ``cloud_columns``, metres, NaN where there was no return. SourceError without x, y and z."""
    if not {"x", "y", "z"} <= {name for name, column in columns.items() if column.ndim == 1}:
        raise SourceError(f"the cloud has the fields {', '.join(columns)}, expected x, y and z of one value each")
    return np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=-1)


def colored_points(message: Any) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points [N, 3], metres, and colours [N, 3] RGB of a cloud; ``rgb`` holds 0x00RRGGBB in the bits of a float.

    Raises SourceError for a malformed cloud, or one without x, y, z and rgb of four bytes.
    """
    columns = cloud_columns(message)
    missing = [name for name in ("x", "y", "z", "rgb") if name not in columns]
    if missing or columns["rgb"].dtype.itemsize != 4:
        raise SourceError(
            f"the cloud has the fields {', '.join(columns)}, expected x, y, z and rgb (4 bytes), as ~/points has them"
        )
    points = np.stack([columns[axis] for axis in "xyz"], axis=-1).astype(np.float32)
    rgb = np.ascontiguousarray(columns["rgb"])
    packed = rgb.view(f"{rgb.dtype.str[0]}u4")  # in the byte order of the cloud
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=-1)
    return points, colors.astype(np.uint8)


def _record_type(fields: Iterable[Field], point_step: int, byte_order: str) -> np.dtype[Any]:
    names: list[str] = []
    formats: list[tuple[str, tuple[int, ...]]] = []
    offsets: list[int] = []
    for name, offset, datatype, count in fields:
        if not name:
            continue
        if name in names:
            raise SourceError(f"the cloud has two fields '{name}', expected unique names; check its publisher")
        if datatype not in DATATYPES:
            raise SourceError(f"field '{name}' of the cloud has datatype {datatype}, expected one of {[*DATATYPES]}")
        code = DATATYPES[datatype]
        count = max(count, 1)  # some drivers leave it 0
        if offset < 0 or offset + count * int(code[1]) > point_step:
            raise SourceError(
                f"field '{name}' of the cloud has {count} values of {code[1]} bytes at offset {offset}, outside the "
                f"{point_step} bytes of a point; check its publisher"
            )
        names.append(name)
        formats.append((byte_order + code, (count,) if count > 1 else ()))
        offsets.append(offset)
    if not 1 <= point_step <= MAX_POINT_BYTES or not names:
        raise SourceError(
            f"the cloud has points of {point_step} bytes with {len(names)} fields, expected 1 to {MAX_POINT_BYTES} "
            "bytes and at least one field; check its publisher"
        )
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": point_step})
