"""Pictures for people: depth in colours, and all views of a rig in one picture."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.images import resize
from fsmde_ros.rig import Rig

OUT_OF_RANGE_RGB = (205, 222, 240)  # pale, like a sky: on no colour map of a depth
NO_VALUE_RGB = (0, 0, 0)
MISSING_RGB = (64, 64, 64)
SIDEWAYS = -0.2  # forward part of an optical axis from which a camera belongs to the row above: up to 102 degrees


def colorize(depth: NDArray[np.float32], near: float = 1.0, far: float = 80.0) -> NDArray[np.uint8]:
    """Depth [H, W] in metres as RGB [H, W, 3]: red is near, blue is far, in equal steps of log depth.

    Depth beyond ``near`` and ``far`` takes the end colours; +inf (out of range) is pale blue and
    NaN (no value) black.
    """
    if not depth.size:
        return np.zeros((*depth.shape, 3), dtype=np.uint8)  # OpenCV divides by the size of what it colours
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(depth / near) / np.log(far / near)
    index = np.nan_to_num(255 * (1 - np.clip(share, 0, 1)), nan=0.0).astype(np.uint8)
    rgb: NDArray[np.uint8] = cv2.applyColorMap(index, cv2.COLORMAP_TURBO)[..., ::-1].astype(np.uint8)
    rgb[np.isposinf(depth)] = OUT_OF_RANGE_RGB
    rgb[np.isnan(depth)] = NO_VALUE_RGB
    return rgb


def rows_of_rig(rig: Rig) -> list[list[str]]:
    """Cameras as a driver would lay out the pictures: those that look forward or sideways above, backward below.

    Each row goes from left to right of the vehicle. A rig that looks one way only has one row.
    """
    rows: list[list[str]] = []
    for is_above in (True, False):
        row = [camera for camera in rig.cameras if (camera.camera_to_vehicle[0, 2] > SIDEWAYS) == is_above]
        row.sort(key=lambda camera: -camera.camera_to_vehicle[1, 2])
        if row:
            rows.append([camera.name for camera in row])
    return rows


def mosaic(
    tiles: Mapping[str, NDArray[np.uint8]], rows: list[list[str]], width: int, named: bool = False
) -> NDArray[np.uint8]:
    """All ``tiles`` (RGB, one size) in ``rows`` of names, as one picture ``width`` pixels wide.

    A name without a tile is a grey field. Rows with fewer names are filled up with grey. ``named`` writes the names
    into the fields.
    """
    columns = max(len(row) for row in rows)
    tile_width = max(width // columns, 1)
    height, original_width = next(iter(tiles.values())).shape[:2]
    tile_height = max(round(height * tile_width / original_width), 1)
    picture = np.empty((tile_height * len(rows), tile_width * columns, 3), dtype=np.uint8)
    picture[:] = MISSING_RGB
    for i, row in enumerate(rows):
        for j, name in enumerate(row):
            if name in tiles:
                y, x = i * tile_height, j * tile_width
                picture[y : y + tile_height, x : x + tile_width] = resize(tiles[name], (tile_height, tile_width))
            if named:
                field = picture[i * tile_height : (i + 1) * tile_height, j * tile_width : (j + 1) * tile_width]
                write(field, name if name in tiles else f"{name}: missing", (6, 18), 0.5)
    return picture


def write(picture: NDArray[np.uint8], text: str, at: tuple[int, int], scale: float = 0.6) -> None:
    """Write into a picture [h, w, 3]: light letters with a dark rim, to be read on anything.

    ``at``: (x, y) of the lower left corner, pixels. What goes beyond the right border is made smaller to fit.
    """
    font, room = cv2.FONT_HERSHEY_SIMPLEX, picture.shape[1] - at[0]
    needed = cv2.getTextSize(text, font, scale, 3)[0][0]
    scale = min(scale, scale * room / max(needed, 1))
    for color, thickness in (((0, 0, 0), 3), ((235, 235, 235), 1)):
        cv2.putText(picture, text, at, font, scale, color, thickness, cv2.LINE_AA)
