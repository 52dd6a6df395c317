"""The sweep that is measured: six cameras in a ring, pictures with structure, or the first of a bag."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.estimator import PreparedSweep
from fsmde_ros.images import encode_jpeg
from fsmde_ros.network_view import network_views
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import EncodedImage, Sweep, View

CAMERA_SIZE = (900, 1600)  # of nuScenes


def make_rig(views: int, size: tuple[int, int] = CAMERA_SIZE) -> Rig:
    """``views`` cameras of ``size`` (H, W) at 1.5 m, looking around evenly, each 70 degrees wide."""
    height, width = size
    focal = width / 1.4
    cameras = []
    for index, yaw in enumerate(2 * np.pi * np.arange(views) / views):
        forward, left = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])
        mounting = np.eye(4)
        mounting[:3, :3] = np.column_stack([-left, [0, 0, -1], forward])
        mounting[:3, 3] = 0.8 * forward + [0, 0, 1.5]
        intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        cameras.append(Camera(f"cam_{index}", size, intrinsics, mounting))
    return Rig(tuple(cameras))


def make_picture(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """[H, W, 3] RGB with detail at every scale, as photographs have it: a JPEG decoder's work depends on that."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3), np.float32)
    for cells in (4, 16, 64, 256):
        coarse = rng.normal(size=(cells, 2 * cells, 3)).astype(np.float32)
        total += cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR) / np.sqrt(cells)
    return np.clip(128 + 90 * total, 0, 255).astype(np.uint8)


def encoded_sweep(views: int, seed: int = 0, stamp_ns: int = 0) -> Sweep:
    """A sweep as it arrives: JPEG of 1600x900."""
    rig = make_rig(views)
    pictures = (encode_jpeg(make_picture(CAMERA_SIZE, seed + i)) for i in range(views))
    images: dict[str, EncodedImage] = dict(zip(rig.names, pictures, strict=True))
    return Sweep(rig, stamp_ns, {name: View(image, stamp_ns) for name, image in images.items()})


def prepared_sweep(views: int, size: tuple[int, int]) -> PreparedSweep:
    """The same sweep at the input size (H, W) of the network."""
    rig = make_rig(views)
    pictures = [view.image(make_picture(CAMERA_SIZE, i)) for i, view in enumerate(network_views(rig, size))]
    return PreparedSweep(rig.resized(size), 0, np.stack(pictures).transpose(0, 3, 1, 2), {})
