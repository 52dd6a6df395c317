"""The picture of a sweep: images over depth maps, and the fused cloud from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.color import colorize, rows_of_rig, write
from fsmde_ros.rig import Rig

Picture = NDArray[np.uint8]

NEAR, FAR = 2.0, 80.0  # metres, the ends of the colours
TILE_WIDTH, ROW_WIDTH = 400, 1200  # pixels; the tiles of few cameras are wider, so that a row is
MAX_COLUMNS = 6  # more cameras stand in two rows
RADIUS = 40.0  # metres, half the side of the view from above
RINGS = (10, 20, 30, 40)
HEIGHTS = (-0.5, 4.0)  # metres above the road, the ends of the colours of heights
BACKGROUND, INK, FAINT = (24, 24, 24), (235, 235, 235), (90, 90, 90)  # BGR
MARGIN = 12


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One sweep, to be drawn.

    Attributes:
        stamp_ns: its reference time, nanoseconds.
        rig: cameras at any size; only their poses are used.
        images: [h, w, 3] uint8 RGB by camera.
        depths: [H, W] metres by camera, NaN = no value, +inf = out of range.
        points: [N, 3] metres in the vehicle frame.
        colors: [N, 3] uint8 RGB of the points.
    """

    rig: Rig
    images: Mapping[str, Picture]
    depths: Mapping[str, NDArray[np.float32]]
    points: NDArray[np.float32]
    colors: Picture
    stamp_ns: int = 0


def compose(snapshot: Snapshot, lines: Sequence[str]) -> Picture:
    """The picture [h, w, 3], BGR; ``lines`` of text stand below. Its size depends on the rig and their number."""
    rows = [from_left_to_right(snapshot.rig)] if len(snapshot.rig) <= MAX_COLUMNS else rows_of_rig(snapshot.rig)
    views = _views(snapshot, rows)
    side = min(1000, views.shape[1] // 2 - 2 * MARGIN)
    above = [
        _from_above(snapshot, side, "from above, in the colours of the images", snapshot.colors[:, ::-1]),
        _from_above(snapshot, side, "from above, by height over the road", _height_colors(snapshot)),
    ]
    width = max(views.shape[1], 2 * side)
    canvas = [_widen(views, width), _widen(_color_bar(width), width), _widen(np.concatenate(above, axis=1), width)]
    canvas.append(_text_block(lines, width))
    return np.concatenate(canvas)


def draw(snapshot: Snapshot, path: Path, lines: Sequence[str]) -> None:
    """Write the picture as PNG. Raises OSError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", compose(snapshot, lines))
    if not done:
        raise OSError(f"{path}: the picture cannot be encoded")
    path.write_bytes(data.tobytes())


def from_left_to_right(rig: Rig) -> list[str]:
    """Cameras by the direction they look in: from back left over the front to the back."""
    axes = {camera.name: camera.camera_to_vehicle[:2, 2] for camera in rig.cameras}
    azimuth = {name: np.degrees(np.arctan2(y, x)) for name, (x, y) in axes.items()}
    # A camera that looks straight back stands at the right end, whatever the sign of its angle.
    return sorted(azimuth, key=lambda name: -azimuth[name] if azimuth[name] < 170 else 360 - azimuth[name])


def _aspect(snapshot: Snapshot) -> float:
    """Of the tiles, height by width: that of most images, so that one of another shape spoils no others."""
    shapes: list[tuple[int, ...]] = [image.shape for image in snapshot.images.values()]
    shapes = shapes or [depth.shape for depth in snapshot.depths.values()]
    shapes = shapes or [camera.size for camera in snapshot.rig.cameras]
    return median_low(shape[0] / shape[1] for shape in shapes)


def _views(snapshot: Snapshot, rows: Sequence[Sequence[str]]) -> Picture:
    """Every image above its depth, in rows of cameras; of a single camera beside it."""
    columns = max(2, *map(len, rows))
    width = max(TILE_WIDTH, ROW_WIDTH // columns)
    size = (round(width * _aspect(snapshot)), width)
    if len(snapshot.rig) == 1:
        return np.concatenate(_tiles(snapshot, rows[0][0], size), axis=1)
    strips = [np.concatenate([np.concatenate(_tiles(snapshot, n, size)) for n in row], axis=1) for row in rows]
    widest = max(strip.shape[1] for strip in strips)
    return np.concatenate([_widen(strip, widest) for strip in strips])


def _tiles(snapshot: Snapshot, name: str, size: tuple[int, int]) -> list[Picture]:
    """The image of a camera and its depth, of ``size`` (H, W) and a border, BGR."""
    tiles = []
    image, depth = snapshot.images.get(name), snapshot.depths.get(name)
    shape = (snapshot.rig[name].size if image is None else image.shape)[:2]  # the depth is that of the whole image
    for picture, title in (
        (None if image is None else image[..., ::-1], name),
        (None if depth is None else colorize(depth, NEAR, FAR)[..., ::-1], f"depth {name}"),
    ):
        tile = np.full((*size, 3), BACKGROUND, np.uint8)
        if picture is None:
            write(tile, "missing", (size[1] // 2 - 40, size[0] // 2))
        else:
            tile = _fitted(picture, shape, size)
        write(tile, title, (8, 22))
        tiles.append(cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=BACKGROUND).astype(np.uint8))
    return tiles


def _fitted(picture: Picture, shape: tuple[int, ...], size: tuple[int, int]) -> Picture:
    """A picture made as high and wide as ``shape`` (H, W) is in proportion, amid a tile of ``size`` (H, W)."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    height, width = (max(1, min(round(side * scale), room)) for side, room in zip(shape, size, strict=True))
    tile = np.full((*size, 3), BACKGROUND, np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    tile[top : top + height, left : left + width] = resized
    return tile


def _height_colors(snapshot: Snapshot) -> Picture:
    if not len(snapshot.points):
        return np.zeros((0, 3), np.uint8)  # OpenCV's colour maps end the process with a picture of no width
    low, high = HEIGHTS
    height = snapshot.points[:, 2] - snapshot.rig.ground_z
    fraction = np.clip((height - low) / (high - low), 0, 1)
    flat = np.round(255 * fraction).astype(np.uint8).reshape(1, -1)
    return cv2.applyColorMap(flat, cv2.COLORMAP_VIRIDIS).reshape(-1, 3).astype(np.uint8)


def _from_above(snapshot: Snapshot, side: int, title: str, colors_bgr: Picture) -> Picture:
    """The cloud seen from above, the vehicle looks up; higher points cover lower ones."""
    picture = np.full((side, side, 3), BACKGROUND, np.uint8)
    scale = side / (2 * RADIUS)
    order = np.argsort(snapshot.points[:, 2])
    column = np.floor(side / 2 - snapshot.points[order, 1] * scale).astype(int)  # y is to the left
    row = np.floor(side / 2 - snapshot.points[order, 0] * scale).astype(int)
    inside = (column >= 0) & (column < side - 1) & (row >= 0) & (row < side - 1)
    for dy in (0, 1):  # a point is two pixels wide, or the picture is too dim to read
        for dx in (0, 1):
            picture[row[inside] + dy, column[inside] + dx] = colors_bgr[order[inside]]
    centre = (side // 2, side // 2)
    for ring in RINGS:
        cv2.circle(picture, centre, round(ring * scale), FAINT, 1, cv2.LINE_AA)
        write(picture, f"{ring} m", (centre[0] + 4, centre[1] - round(ring * scale) + 16), 0.45)
    half = np.round(np.array([0.95, 2.3]) * scale).astype(int)
    cv2.rectangle(picture, (centre[0] - half[0], centre[1] - half[1]), (centre[0] + half[0], centre[1] + half[1]), INK)
    cv2.arrowedLine(picture, centre, (centre[0], centre[1] - round(4 * scale)), INK, 1, cv2.LINE_AA, tipLength=0.3)
    write(picture, title, (10, side - 12))
    return picture


def _color_bar(width: int) -> Picture:
    """The colours of depth with their metres."""
    height, left = 56, 150
    bar = np.full((height, width, 3), BACKGROUND, np.uint8)
    right = min(width - 60, left + 1200)
    metres = NEAR * (FAR / NEAR) ** np.linspace(0, 1, right - left)
    bar[10:30, left:right] = colorize(metres[None].astype(np.float32), NEAR, FAR)[..., ::-1]
    write(bar, "depth, metres", (MARGIN, 26))
    for value in (2, 3, 5, 8, 12, 20, 30, 50, 80):
        x = left + round((right - left - 1) * np.log(value / NEAR) / np.log(FAR / NEAR))
        cv2.line(bar, (x, 28), (x, 34), INK, 1)
        write(bar, str(value), (x - 8, 50), 0.5)
    return bar


def _text_block(lines: Sequence[str], width: int) -> Picture:
    block = np.full((24 * len(lines) + 2 * MARGIN, width, 3), BACKGROUND, np.uint8)
    for index, line in enumerate(lines):
        write(block, line, (MARGIN, 24 * (index + 1)))
    return block


def _widen(picture: Picture, width: int) -> Picture:
    missing = width - picture.shape[1]
    left = missing // 2
    widened = cv2.copyMakeBorder(picture, 0, 0, left, missing - left, cv2.BORDER_CONSTANT, value=BACKGROUND)
    return widened.astype(np.uint8)
