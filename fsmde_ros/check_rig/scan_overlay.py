"""A LiDAR scan projected into the images: a wrong extrinsic is seen at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.color import colorize, mosaic, rows_of_rig
from fsmde_ros.errors import ImageError, SourceError
from fsmde_ros.geometry import invert, project, transform
from fsmde_ros.images import decode, resize
from fsmde_ros.rectify import undistort, undistortion_maps
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.self_occlusion import usable_pixels
from fsmde_ros.sweep import EncodedImage, Sweep, View, lidar_in_view

Picture = NDArray[np.uint8]

NEAR, FAR = 2.0, 60.0  # metres, the ends of the colours
TILE_WIDTH = 640
HORIZON_RGB, RING_RGB = (255, 255, 255), (255, 0, 255)
RING = 10.0  # metres from the middle of the cameras, on the road
CANDIDATES = 20  # sweeps of which the fullest is taken
ROAD_NEAR, ROAD_FAR = 4.0, 15.0  # metres around the vehicle where the road is looked for
ROAD_BIN = 0.1  # metres
ROAD_SEARCH = 4.0  # metres above and below the rig's own ground_z


def choose_sweep(sweeps: Iterable[Sweep], first: int = 0) -> Sweep:
    """The sweep with a scan and the most views, of 20 from number ``first`` on.

    Raises SourceError where the drive is shorter.
    """
    best: Sweep | None = None
    for sweep in islice(sweeps, first, first + CANDIDATES):
        if best is None or _fullness(sweep) > _fullness(best):
            best = sweep
        if sweep.lidar is not None and not sweep.missing:
            break
    if best is None:
        raise SourceError(f"the bag has no sweep number {first}; choose a smaller --sweep")
    return best


def _fullness(sweep: Sweep) -> tuple[bool, int]:
    return sweep.lidar is not None, len(sweep.views)


def decoded(sweep: Sweep) -> tuple[Sweep, Mapping[str, str]]:
    """The sweep with pixels for images, without those that cannot be decoded; and what is wrong with these, by camera.

    Raises ImageError where none can be.
    """
    views: dict[str, View] = {}
    problems: dict[str, str] = {}
    for name in sweep.present:
        view = sweep.views[name]
        try:
            views[name] = replace(view, image=decode(view.image)) if isinstance(view.image, EncodedImage) else view
        except ImageError as error:
            problems[name] = str(error)
    if not views:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise ImageError(
            f"no image of the sweep at {sweep.stamp_ns} ns can be decoded ({listed}); choose another --sweep"
        )
    return replace(sweep, views=views), problems


def overlay(sweep: Sweep) -> Picture:
    """All images of a sweep [h, w, 3] RGB with its scan in the colours of depth, as seen from the vehicle.

    White: the horizon. Magenta: a circle of 10 m on the road, around the middle of the cameras. Dark and red: no depth
    is given there (``usable_pixels``).
    Raises ImageError where an image has another size than the rig says.
    """
    tiles = {name: _tile(sweep, name) for name in sweep.present}
    height, width = next(iter(tiles.values())).shape[:2]
    tiles = {name: resize(tile, (height, width)) for name, tile in tiles.items()}
    rows = rows_of_rig(sweep.rig)
    return mosaic(tiles, rows, TILE_WIDTH * max(map(len, rows)))


def _tile(sweep: Sweep, name: str) -> Picture:
    """One image, shrunk to ``TILE_WIDTH`` before anything is drawn, so that points keep their size."""
    camera = sweep.rig[name]
    image = _rectified(sweep.views[name], camera)
    height = max(round(TILE_WIDTH * camera.size[0] / camera.size[1]), 1)
    shown = camera.rectified().resized((height, TILE_WIDTH))
    picture: Picture = resize(image, (height, TILE_WIDTH)).copy()
    usable = usable_pixels(camera, (height, TILE_WIDTH))
    if usable is not None:
        picture[~usable] = picture[~usable] // 3 + np.array([80, 0, 0], dtype=np.uint8)
    pixels, depth = lidar_in_view(_at_size(sweep, shown), name)
    colors = colorize(depth.astype(np.float32)[None], NEAR, FAR)[0]
    for (x, y), color in sorted(zip(np.round(pixels).astype(int).tolist(), colors.tolist(), strict=True)):
        cv2.circle(picture, (x, y), 2, color, -1)
    _draw_lines(picture, sweep.rig, shown)
    cv2.putText(picture, name, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 4, cv2.LINE_AA)
    cv2.putText(picture, name, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2, cv2.LINE_AA)
    return picture


def _rectified(view: View, camera: Camera) -> Picture:
    image = decode(view.image) if isinstance(view.image, EncodedImage) else view.image
    if image.shape[:2] != camera.size:
        raise ImageError(
            f"camera '{camera.name}': its images are {image.shape[1]}x{image.shape[0]} pixels, the rig says "
            f"{camera.size[1]}x{camera.size[0]}; give the intrinsics of these images"
        )
    return image if camera.is_rectified else undistort(image, undistortion_maps(camera))


def _at_size(sweep: Sweep, camera: Camera) -> Sweep:
    cameras = tuple(camera if other.name == camera.name else other for other in sweep.rig.cameras)
    return Sweep(Rig(cameras, sweep.rig.vehicle_frame, sweep.rig.ground_z), sweep.stamp_ns, sweep.views, sweep.lidar)


def _draw_lines(picture: Picture, rig: Rig, camera: Camera) -> None:
    """Where the horizon and a circle on the road must be, if the rotation and the height are right."""
    angles = np.linspace(0, 2 * np.pi, 721)
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1)
    middle = np.array([*rig.camera_to_vehicle()[:, :2, 3].mean(0), rig.ground_z])
    horizon = np.array([*camera.camera_to_vehicle[:3, 3]]) + 1e6 * ring
    for points, color in ((horizon, HORIZON_RGB), (middle + RING * ring, RING_RGB)):
        pixels, _ = project(camera.intrinsics, transform(invert(camera.camera_to_vehicle), points))
        near = np.isfinite(pixels).all(-1) & (np.abs(np.nan_to_num(pixels)) < 4 * TILE_WIDTH).all(-1)
        for i in np.flatnonzero(near[:-1] & near[1:]):
            start, end = np.round(pixels[i : i + 2]).astype(int).tolist()
            cv2.line(picture, start, end, color, 1, cv2.LINE_AA)


def road_height(sweep: Sweep) -> float | None:
    """z of the road in the vehicle frame, metres, where a scan shows enough of it.

    The most frequent height of the points 4 to 15 m around the vehicle: a road gives many points of
    one height, a wall gives few of each. None below 200 points or where no height stands out.
    """
    if sweep.lidar is None:
        return None
    points = sweep.lidar.points_vehicle
    distance = np.hypot(points[:, 0], points[:, 1])
    height = points[(distance > ROAD_NEAR) & (distance < ROAD_FAR), 2]
    height = height[np.abs(height - sweep.rig.ground_z) < ROAD_SEARCH]
    if len(height) < 200:
        return None
    edges = np.arange(height.min(), height.max() + 2 * ROAD_BIN, ROAD_BIN)
    counts, edges = np.histogram(height, edges)
    best = int(np.argmax(counts))
    around = height[np.abs(height - (edges[best] + ROAD_BIN / 2)) < 1.5 * ROAD_BIN]
    return float(np.median(around)) if len(around) > 0.2 * len(height) else None
