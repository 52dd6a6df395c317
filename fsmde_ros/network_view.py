"""How the image of a camera lies in the input of a network: upright, its pixels about square, with a rim.

A student has seen upright images of square pixels only. Of a camera that hangs upside down or on its side, or of an
image of 4:3 that is stretched to the 5:3 of the input, it says nonsense; so such images are turned, and fitted in with
a rim, and its depth is brought back to the pixels of the camera. Where an image becomes an input is here alone: the
node, evaluation and training do not disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ImageError
from fsmde_ros.geometry import scale_intrinsics
from fsmde_ros.images import decode, encoded_size, largest_reduction, resize
from fsmde_ros.rectify import rectify, rectifying_maps, rectifying_size
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import EncodedImage

Image = NDArray[np.uint8]  # [H, W, 3] RGB

FILL = (124, 116, 104)  # RGB, the mean of ImageNet: normalised it is 0, as what a convolution sees beyond the rim

# Width by height of what a square becomes, or its inverse, up to which an image fills the input: 16:9 and DDAD's 1.59:1
# do in 5:3 and in 7:4, as in training; DDAD's focal lengths differ by up to 0.3 %. What a rim is worth:
# docs/evaluation.md. To be changed together with the formats of cached samples (training).
_MOST_STRETCHED = 1.105
_LEAST_RISE = 0.2  # of a pixel's step in the image, upwards; where no step rises more, the camera looks straight down


@dataclass(frozen=True, eq=False)
class NetworkView:
    """The image of one camera in the input of a network.

    Attributes:
        given: the camera.
        size: (H, W) of the input.
        turns: quarter turns, counterclockwise, that make the image upright.
        rows, columns: (first, end) of the part of the input that the image takes.
    """

    given: Camera
    size: tuple[int, int]
    turns: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def is_plain(self) -> bool:
        """Whether the input is the image, resized."""
        return self.turns == 0 and self._upright_size == self.size

    @property
    def _upright_size(self) -> tuple[int, int]:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def _own_size(self) -> tuple[int, int]:
        """(h, w) of what the input shows of the image, before it is turned."""
        return self._upright_size[::-1] if self.turns % 2 else self._upright_size

    @property
    def camera(self) -> Camera:
        """The pinhole camera that takes the whole input, as the network is told of it."""
        return self.told(self.given)

    def told(self, camera: Camera) -> Camera:
        """``camera`` of the input, were ``camera``, of any size, the one that took the image."""
        return _told(self, camera)

    def image(self, given: EncodedImage | Image, shrinks: int = 1) -> Image:
        """The input [H, W, 3], RGB.

        Args:
            given: the image of the camera, encoded or [h, w, 3] RGB; h and w are those of the camera.
            shrinks: of the pixels of the input the network averages so many, along each side, before it looks at them.
                A JPEG is decoded no larger than that.

        Raises ImageError where it cannot be decoded or is not an image of the camera.
        """
        own = self._own_size
        if isinstance(given, EncodedImage):
            self._check((*encoded_size(given), 3), "uint8")
            seen = own[0] // shrinks, own[1] // shrinks
            needed = seen if self.given.is_rectified else rectifying_size(self.given.size, own)
            image = decode(given, reduction=largest_reduction(self.given.size, needed))
        else:
            image = given
            self._check(image.shape, str(image.dtype))
        if not self.given.is_rectified:
            return self.place(rectify(image, rectifying_maps(self.given, own), own), FILL)
        return self.place(resize(image, own), FILL)

    def place(self, values: NDArray[Any], fill: Any) -> NDArray[Any]:
        """What each pixel of the camera has, [h, w] or [h, w, C] of any size, on the input; its rim has ``fill``."""
        if self.is_plain and values.shape[:2] == self.size:
            return values
        height, width = self._own_size
        if values.shape[:2] != (height, width):
            values = values[_nearest(values.shape[0], height)][:, _nearest(values.shape[1], width)]
        placed = np.empty((*self.size, *values.shape[2:]), dtype=values.dtype)
        placed[:] = fill
        placed[slice(*self.rows), slice(*self.columns)] = np.rot90(values, self.turns)
        return placed

    def take(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the input has, [..., H, W], of each pixel of the camera's image resized to [H, W]: the nearest value."""
        if self.is_plain:
            return values
        upright = values[..., slice(*self.rows), slice(*self.columns)]
        own = np.rot90(upright, -self.turns, axes=(-2, -1))
        for axis, wanted in zip((-2, -1), self.size, strict=True):
            if own.shape[axis] != wanted:
                own = own.take(_nearest(own.shape[axis], wanted), axis)  # half the time of one index of both
        return own

    def pixels(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where places [N, 2] (x, y) of the camera's image resized to (H, W) lie in the input."""
        own = (pixels + 0.5) * np.divide(self._own_size, self.size)[::-1] - 0.5
        placed: NDArray[np.float64] = own @ self._to_input[:2, :2].T + self._to_input[:2, 2]
        return placed

    @property
    def _to_input(self) -> NDArray[np.float64]:
        """[3, 3] from pixels (x, y, 1) of the image at ``_own_size`` to those of the input, about both middles."""
        result = _rotation(self.turns).T
        middle = (np.array(self._own_size[::-1]) - 1) / 2
        placed = (np.array([sum(self.columns), sum(self.rows)]) - 1) / 2
        result[:2, 2] = placed - result[:2, :2] @ middle
        return result

    def _check(self, shape: tuple[int, ...], dtype: str) -> None:
        if shape != (*self.given.size, 3) or dtype != "uint8":
            raise ImageError(
                f"the image of camera '{self.given.name}' has shape {shape} and type {dtype}, expected "
                f"{(*self.given.size, 3)} and uint8 by its calibration; correct the CameraInfo or the rig file"
            )


@lru_cache(maxsize=256)  # asked for every sweep: to make and check six cameras anew takes milliseconds
def _told(view: NetworkView, camera: Camera) -> Camera:
    """``NetworkView.told``."""
    if view.is_plain:
        return camera.rectified().resized(view.size)
    turn = _rotation(view.turns)
    pose = camera.camera_to_vehicle.copy()
    pose[:3, :3] = pose[:3, :3] @ turn
    intrinsics = view._to_input @ scale_intrinsics(camera.intrinsics, camera.size, view._own_size) @ turn
    if view.turns % 2:
        intrinsics[1, 0] = 0.0  # a skew, which no camera of today has, would come to lie where no K has a number
    return replace(camera.rectified(), size=view.size, intrinsics=intrinsics, camera_to_vehicle=pose)


@lru_cache(maxsize=256)  # by the camera object: the sweeps of a drive share theirs
def network_view(camera: Camera, size: tuple[int, int]) -> NetworkView:
    """How images of ``camera`` lie in an input of ``size`` (H, W)."""
    turns = quarter_turns(camera)
    height, width = camera.size[::-1] if turns % 2 else camera.size
    focal_x, focal_y = np.diag(camera.intrinsics)[:2][:: -1 if turns % 2 else 1]
    stretch = round(float((focal_x * size[1] / width) / (focal_y * size[0] / height)), 6)
    rows, columns = size
    if max(stretch, 1 / stretch) > _MOST_STRETCHED:
        rows = max(1, round(rows * min(1.0, stretch)))
        columns = max(1, round(columns * min(1.0, 1 / stretch)))
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    return NetworkView(camera, size, turns, (top, top + rows), (left, left + columns))


def network_views(rig: Rig, size: tuple[int, int]) -> tuple[NetworkView, ...]:
    """``network_view`` of each camera of a rig."""
    return tuple(network_view(camera, size) for camera in rig.cameras)


def take_all(views: tuple[NetworkView, ...], values: NDArray[Any]) -> NDArray[Any]:
    """``NetworkView.take`` of each of the views, [V, ..., H, W]; the same array where all are plain."""
    if all(view.is_plain for view in views):
        return values
    return np.stack([view.take(value) for view, value in zip(views, values, strict=True)])


def quarter_turns(camera: Camera) -> int:
    """Quarter turns, counterclockwise as of ``np.rot90``, that make images of ``camera`` upright by its extrinsics."""
    right, down = camera.camera_to_vehicle[2, :2]  # how much a step in the image rises
    if np.hypot(right, down) <= _LEAST_RISE:
        return 0
    return round(np.arctan2(right, -down) / (np.pi / 2)) % 4


def _rotation(turns: int) -> NDArray[np.float64]:
    """[3, 3] from the frame of a camera that was turned by quarter turns, as of ``np.rot90``, to its frame before."""
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    result: NDArray[np.float64] = np.linalg.matrix_power(quarter, turns)
    return result


def _nearest(given: int, wanted: int) -> NDArray[np.int64]:
    """Which of ``given`` pixels each of ``wanted`` is nearest to, by the half-pixel rule."""
    nearest: NDArray[np.int64] = ((np.arange(wanted) + 0.5) * given / wanted).astype(np.int64)
    return nearest
