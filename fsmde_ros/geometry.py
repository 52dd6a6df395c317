"""Pinhole cameras and rigid transforms.

Convention
    Pixels      (x, y), x to the right, y down; the centre of the first pixel is (0, 0), as in
                OpenCV and ``sensor_msgs/CameraInfo``.
    Camera      optical frame of REP 103: x right, y down, z along the optical axis.
    Vehicle     x forward, y left, z up (REP 103, REP 105 ``base_link``).
    Depth       metres along the optical axis (z of the camera frame), not along the ray.
    Transforms  ``a_to_b`` is the [4, 4] matrix that takes homogeneous points of frame a to
                frame b: ``points_b = transform(a_to_b, points_a)``; ``compose(b_to_c, a_to_b)``
                is ``a_to_c``.
    Resizing    by the half-pixel rule ``x' = (x + 0.5) * s - 0.5``; nobody else scales intrinsics.

Everything here is numpy in float64; torch twins for batches live in ``network/rays.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def transform(a_to_b: ArrayLike, points_a: ArrayLike) -> Array:
    """Take points ``[..., 3]`` of frame a to frame b (metres in, metres out)."""
    matrix = np.asarray(a_to_b, dtype=np.float64)
    points = np.asarray(points_a, dtype=np.float64)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def compose(*transforms: ArrayLike) -> Array:
    """Multiply transforms, the last applied first: ``compose(b_to_c, a_to_b)`` is ``a_to_c``."""
    result = np.eye(4)
    for matrix in transforms:
        result = result @ np.asarray(matrix, dtype=np.float64)
    return result


def invert(a_to_b: ArrayLike) -> Array:
    """``b_to_a`` of a rigid ``a_to_b`` ``[4, 4]``."""
    matrix = np.asarray(a_to_b, dtype=np.float64)
    rotation = matrix[:3, :3].T
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = -rotation @ matrix[:3, 3]
    return result


def rotation_from_quaternion(wxyz: ArrayLike) -> Array:
    """Rotation ``[3, 3]`` of a quaternion (w, x, y, z); it need not be normalised.

    Raises ValueError for a quaternion of zero or non-finite length.
    """
    quaternion = np.asarray(wxyz, dtype=np.float64)
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite(norm) or norm < 1e-12:
        raise ValueError(f"a quaternion must have a finite length above 0, got {quaternion}")
    w, x, y, z = quaternion / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: ArrayLike) -> Array:
    """Unit quaternion (w, x, y, z), w >= 0, of a rotation ``[3, 3]``.

    The largest of the four components is taken from the diagonal and the others from it
    (Shepperd, 1978), which stays accurate for every angle.
    """
    r = np.asarray(rotation, dtype=np.float64)
    trace = float(np.trace(r))
    squares = np.array([trace, r[0, 0], r[1, 1], r[2, 2]])
    i = int(np.argmax(squares))
    if i == 0:
        q = np.array([1 + trace, r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    elif i == 1:
        q = np.array([r[2, 1] - r[1, 2], 1 + 2 * r[0, 0] - trace, r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]])
    elif i == 2:
        q = np.array([r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], 1 + 2 * r[1, 1] - trace, r[1, 2] + r[2, 1]])
    else:
        q = np.array([r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], 1 + 2 * r[2, 2] - trace])
    q = q / np.linalg.norm(q)
    return q if q[0] >= 0 else -q


def rigid(rotation_wxyz: ArrayLike, translation: ArrayLike) -> Array:
    """``[4, 4]`` transform of a quaternion (w, x, y, z) and a translation in metres."""
    result = np.eye(4)
    result[:3, :3] = rotation_from_quaternion(rotation_wxyz)
    result[:3, 3] = np.asarray(translation, dtype=np.float64)
    return result


def interpolate_rigid(start: ArrayLike, end: ArrayLike, fraction: float) -> Array:
    """The pose at ``fraction`` of the way: translation linear, rotation along the great arc.

    ``fraction`` outside [0, 1] extrapolates (a constant velocity), which is what a scan that
    begins a few milliseconds before the first known pose needs.
    """
    a, b = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    q0, q1 = quaternion_from_rotation(a[:3, :3]), quaternion_from_rotation(b[:3, :3])
    cosine = float(np.dot(q0, q1))
    if cosine < 0:
        q1, cosine = -q1, -cosine
    angle = float(np.arccos(min(cosine, 1.0)))
    if angle < 1e-6:  # sin(angle) vanishes: the chord and the arc agree to 1e-12
        q = (1 - fraction) * q0 + fraction * q1
    else:
        q = (np.sin((1 - fraction) * angle) * q0 + np.sin(fraction * angle) * q1) / np.sin(angle)
    return rigid(q, (1 - fraction) * a[:3, 3] + fraction * b[:3, 3])


def scale_intrinsics(intrinsics: ArrayLike, from_size: tuple[int, int], to_size: tuple[int, int]) -> Array:
    """Intrinsics ``[3, 3]`` of an image resized from ``from_size`` to ``to_size``, both (H, W)."""
    scale_y, scale_x = to_size[0] / from_size[0], to_size[1] / from_size[1]
    result = np.array(intrinsics, dtype=np.float64)
    result[0, :] *= scale_x
    result[1, :] *= scale_y
    result[0, 2] = (np.asarray(intrinsics)[0, 2] + 0.5) * scale_x - 0.5
    result[1, 2] = (np.asarray(intrinsics)[1, 2] + 0.5) * scale_y - 0.5
    return result


def project(intrinsics: ArrayLike, points_camera: ArrayLike) -> tuple[Array, Array]:
    """Project points ``[..., 3]`` of the camera frame.

    Returns pixels ``[..., 2]`` (x, y) and depth ``[...]`` in metres. Pixels of points with
    depth <= 0 are NaN: they are not in front of the camera.
    """
    points = np.asarray(points_camera, dtype=np.float64)
    depth = points[..., 2]
    safe = np.where(depth > 0, depth, np.nan)
    homogeneous = points @ np.asarray(intrinsics, dtype=np.float64).T
    return homogeneous[..., :2] / safe[..., None], depth


def unproject(intrinsics: ArrayLike, pixels: ArrayLike, depth: ArrayLike) -> Array:
    """Points ``[..., 3]`` of the camera frame at pixels ``[..., 2]`` and depth ``[...]`` (m)."""
    xy = np.asarray(pixels, dtype=np.float64)
    homogeneous = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)
    rays = homogeneous @ np.linalg.inv(np.asarray(intrinsics, dtype=np.float64)).T
    return rays * np.asarray(depth, dtype=np.float64)[..., None]


def pixel_grid(size: tuple[int, int]) -> Array:
    """Pixel centres ``[H, W, 2]`` (x, y) of an image of ``size`` (H, W)."""
    ys, xs = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64), indexing="ij")
    return np.stack([xs, ys], axis=-1)


def ground_plane_depth(
    intrinsics: ArrayLike,
    camera_to_vehicle: ArrayLike,
    size: tuple[int, int],
    ground_z: float = 0.0,
    cap: float = 20.0,
) -> Array:
    """Depth ``[H, W]`` in metres of a flat ground at height ``ground_z`` of the vehicle frame.

    Where the ray does not meet the ground, or meets it beyond ``cap``, the depth is ``cap``: the
    baseline that every learned depth has to beat.
    """
    return ground_plane_depth_at(intrinsics, camera_to_vehicle, pixel_grid(size), ground_z, cap)


def ground_plane_depth_at(
    intrinsics: ArrayLike,
    camera_to_vehicle: ArrayLike,
    pixels: ArrayLike,
    ground_z: float = 0.0,
    cap: float = 20.0,
) -> Array:
    """``ground_plane_depth`` at sub-pixel positions ``[..., 2]`` (x, y): depth ``[...]`` in metres."""
    xy = np.asarray(pixels, dtype=np.float64)
    rays_camera = unproject(intrinsics, xy, np.ones(xy.shape[:-1]))
    matrix = np.asarray(camera_to_vehicle, dtype=np.float64)
    fall = rays_camera @ matrix[2, :3]  # metres of height per metre of depth
    height = matrix[2, 3] - ground_z
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -height / fall
    return np.where((fall < 0) & (depth > 0) & (depth < cap), depth, cap)
