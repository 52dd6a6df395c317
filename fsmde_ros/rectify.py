"""Undistorting images, so that they follow the pinhole model of their camera's intrinsics."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ImageError
from fsmde_ros.images import resize
from fsmde_ros.rig import Camera

Maps = tuple[NDArray[np.float32], NDArray[np.float32]]


def undistortion_maps(camera: Camera) -> Maps:
    """Where each pixel of the rectified image lies in the raw one: x and y, each [H, W], pixels.

    The rectified image keeps the size and the intrinsics of ``camera``. Models as in ``CameraInfo``:
    ``plumb_bob`` and ``rational_polynomial`` (OpenCV's), ``equidistant`` (OpenCV's fisheye).
    """
    size = camera.size[::-1]
    if camera.distortion_model == "equidistant":
        x, y = cv2.fisheye.initUndistortRectifyMap(
            camera.intrinsics, camera.distortion, np.eye(3), camera.intrinsics, size, cv2.CV_32FC1
        )
    else:
        x, y = cv2.initUndistortRectifyMap(
            camera.intrinsics, camera.distortion, np.eye(3), camera.intrinsics, size, cv2.CV_32FC1
        )
    return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)


@lru_cache(maxsize=24)  # the sweeps of a drive share their cameras; 24 pairs for 448x256 are 88 MB
def rectifying_maps(camera: Camera, size: tuple[int, int]) -> Maps:
    """The maps that ``rectify`` takes for images of ``camera`` and ``size`` (H, W)."""
    return undistortion_maps(camera.resized(rectifying_size(camera.size, size)))


def rectify(image: NDArray[np.uint8], maps: Maps, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The raw ``image`` [h, w, 3], of any size, rectified and resized to ``size`` (H, W).

    ``maps`` are the ``rectifying_maps`` of its camera for that size.
    """
    raw = resize(image, (maps[0].shape[0], maps[0].shape[1]))
    rectified: NDArray[np.uint8] = resize(undistort(raw, maps), size)
    return rectified


def rectifying_size(camera_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The size (H, W) at which images of ``camera_size`` are best rectified where ``size`` is wanted.

    Twice as large, as far as the camera has so many pixels: each pixel of the result is then the mean of four bilinear
    samples. At full size the work would be that of a sensor of megapixels, at ``size`` itself the picture would lose
    sharpness twice.
    """
    return min(camera_size[0], 2 * size[0]), min(camera_size[1], 2 * size[1])


def undistort(image: NDArray[np.uint8], maps: Maps) -> NDArray[np.uint8]:
    """Rectify ``image`` [H, W, 3]; pixels that the raw image does not have are black.

    Raises ImageError where the image has not the size of the camera the maps were made for.
    """
    if image.shape[:2] != maps[0].shape:
        raise ImageError(
            f"the image is {image.shape[1]}x{image.shape[0]} pixels, but its camera is "
            f"{maps[0].shape[1]}x{maps[0].shape[0]}; correct the CameraInfo or the rig file"
        )
    rectified: NDArray[np.uint8] = cv2.remap(image, *maps, cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return rectified
