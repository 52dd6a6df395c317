"""Undistorting images, so that they follow the pinhole model of their camera's intrinsics."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ImageError
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
