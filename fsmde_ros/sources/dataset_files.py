"""Files of a dataset that its own tables name: opened only inside the dataset, with clear errors."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fsmde_ros.errors import ImageError, SourceError
from fsmde_ros.geometry import rigid
from fsmde_ros.images import encoded_size
from fsmde_ros.sweep import EncodedImage

MAX_NAME = 1000  # characters of a file name in a table; real ones are below 200
MAX_FILE_BYTES = 256 * 2**20  # one image or one scan; real ones are below 10 MB


def path_inside(root: Path, name: object, where: str) -> Path:
    """The file that a table names, relative to the root of the dataset.

    Raises SourceError for a name that is no text, is absolute, or leads out of ``root`` by "..";
    ``where`` names the table. Links that the user has put into the dataset are followed.
    """
    pure = PurePosixPath(name) if isinstance(name, str) else None
    if isinstance(name, str) and len(name) > MAX_NAME:
        raise SourceError(f"{where}: a file name of {len(name)} characters, expected at most {MAX_NAME}")
    if pure is None or not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in str(pure):
        raise SourceError(f"{where}: the file name {name!r:.200} leads out of the dataset, expected one inside {root}")
    return root / pure


def read_bytes(path: Path) -> bytes:
    """Content of a file of the dataset. Raises SourceError where it is missing, empty or huge."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if 0 < size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read: {error.strerror}; the tables name it, is the dataset complete?"
        ) from error
    if not data:
        raise SourceError(f"{path}: has {size} bytes, expected 1 to {MAX_FILE_BYTES}; is the dataset complete?")
    return data


def read_json(path: Path) -> Any:
    """Content of a JSON file. Raises SourceError where it is missing, no JSON or has a whole number above 64 bits."""
    try:
        return json.loads(path.read_bytes(), parse_int=_whole_number)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; is the dataset complete?") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not a JSON file: {error}; copy the dataset anew") from error


def _whole_number(digits: str) -> int:
    """As int, but of what no column of numbers can hold, a ValueError here is better than an overflow there."""
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} is no number of 64 bits")
    return number


def read_image(path: Path, size: tuple[int, int]) -> EncodedImage:
    """The bytes of an image as they are, after a look at its header.

    Raises SourceError where the file is missing, is truncated, is neither JPEG nor PNG, or has
    not the ``size`` (H, W) that the tables give.
    """
    data = read_bytes(path)
    image = EncodedImage(data, "png" if data.startswith(b"\x89PNG") else "jpeg")
    try:
        found = encoded_size(image)
    except ImageError as error:
        raise SourceError(f"{path}: {error}") from error
    if found != size:
        raise SourceError(
            f"{path}: the image is {found[1]}x{found[0]} pixels, expected {size[1]}x{size[0]} as the tables say"
        )
    return image


def pose_from_table(rotation_wxyz: ArrayLike, translation: ArrayLike, where: str) -> NDArray[np.float64]:
    """``[4, 4]`` of a quaternion (w, x, y, z) and a translation (m) that stand in a table.

    Raises SourceError that begins with ``where`` for anything that is no pose.
    """
    try:
        pose = rigid(rotation_wxyz, translation)
    except (ValueError, TypeError) as error:
        raise SourceError(f"{where}: not a pose: {error}") from error
    if not np.isfinite(pose).all():
        raise SourceError(f"{where}: not a pose: translation {translation!r} is not finite")
    return pose
