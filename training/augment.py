"""Augmentation that keeps the geometry true, and colours no street has to have.

Whatever moves a pixel moves the intrinsics or extrinsics, the LiDAR points and the dense depth with
it. The photometric part is heavy on purpose: the student must not learn the town's style, but its
structure, or it will not carry over to real streets.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import invert
from fsmde_ros.images import resize
from fsmde_ros.network_view import FILL
from training.batch import Sample, select_views
from training.mirrored import MIRROR, mirrored_intrinsics, mirrored_pose
from training.mounting_error import MountingError
from training.own_body import cover_with_body

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class AugmentSettings:
    """Strengths of the augmentation; probabilities are per sweep or per view as the name says."""

    flip: float = 0.5  # probability, per sweep: mirrors the world, so left and right traffic both occur
    crop: float = 0.5  # probability, per view
    smallest_crop: float = 0.7  # side of the smallest crop as a share of the image: focal length up to 1.4 x
    drop_view: float = 0.04  # probability, per view: the node meets silent cameras
    max_views: int = 6  # larger rigs lose views at random: time and memory of a step
    style: float = 0.8  # probability, per sweep: channel mixing, white balance, saturation, hue, tone curve
    grey: float = 0.1  # probability, per sweep
    hard_light: float = 0.3  # probability, per sweep: a stretched tone curve, white sky over black leaves
    random_filter: float = 0.35  # probability, per sweep: random convolution, which spoils the town's textures
    exposure: float = 0.15  # per view: standard deviation of brightness (log) and contrast (log)
    blur: float = 0.25  # probability, per view: defocus or motion
    noise: float = 0.4  # probability, per view
    jpeg: float = 0.4  # probability, per view
    cutout: float = 0.2  # probability, per view: dirt on the lens, a solid patch
    glare: float = 0.15  # probability, per view: overexposed, so that bright surfaces are clipped to white
    tilt: float = 0.0  # rad, standard deviation per sweep of the pitch and roll by which the given rig is wrong
    lift: float = 0.0  # m, likewise of the height of the road
    own_body: float = 0.3  # probability, per view: bodywork of the own car along the lower edge
    rim: float = 0.0  # probability, per sweep: images of another shape, as a ``NetworkView`` fits them in
    lidar_every: int = 1  # of the LiDAR points every n-th is kept: what a LiDAR of fewer beams would teach

    def __post_init__(self) -> None:
        others = ("smallest_crop", "max_views", "exposure", "tilt", "lift", "lidar_every")
        if not 0 <= self.exposure <= 1:
            raise ConfigError(f"augment.exposure must be in [0, 1], got {self.exposure}")
        for name in (field.name for field in fields(self) if field.name not in others):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} must be a probability in [0, 1], got {getattr(self, name)}")
        if not 0.2 <= self.smallest_crop <= 1:
            raise ConfigError(f"augment.smallest_crop must be in [0.2, 1], got {self.smallest_crop}")
        for name in ("tilt", "lift"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ConfigError(f"augment.{name} must be in [0, 0.5), got {getattr(self, name)}")
        if self.max_views < 1:
            raise ConfigError(f"augment.max_views must be at least 1, got {self.max_views}")
        if self.lidar_every < 1:
            raise ConfigError(f"augment.lidar_every must be at least 1, got {self.lidar_every}")


def augment(sample: Sample, settings: AugmentSettings, rng: np.random.Generator) -> Sample:
    """A random variation of the sample: permuted, dropped, mirrored, cropped and recoloured views."""
    sample = replace(sample, lidar=sample.lidar[:: settings.lidar_every])
    order = rng.permutation(len(sample.rig))
    if len(order) > settings.max_views:  # those with an image first: of the others alone nothing is learnt
        order = order[np.argsort(~sample.present[order], kind="stable")][: settings.max_views]
    sample = select_views(sample, [int(view) for view in order])
    if rng.random() < settings.flip:
        sample = mirror(sample)
    sample = _crop_views(sample, settings, rng)
    if settings.tilt > 0 or settings.lift > 0:
        pitch, roll = rng.normal(0, settings.tilt, 2)
        sample = _told(sample, MountingError(pitch, roll, rng.normal(0, settings.lift)))
    # a rim stays as the node makes it, whatever the camera sees
    is_rim = (sample.images == FILL).all(-1) & ~sample.usable
    recoloured = np.where(is_rim[..., None], sample.images, recolour(sample.images, settings, rng))
    sample = replace(sample, images=recoloured, clean=sample.images)
    if rng.random() < settings.rim:
        sample = with_rim(sample, *_random_window(sample.size, rng))
    dropped = [v for v in range(len(sample.rig)) if rng.random() < settings.drop_view]
    return drop_views(sample, dropped[: int(sample.present.sum()) - 1])


def _told(sample: Sample, error: MountingError) -> Sample:
    """The sample with the rig that is told; what the vehicle drives looks the same to its cameras."""
    turn = error.true_to_told()
    return replace(
        sample,
        rig=error.told(sample.rig),
        vehicle_to_common=turn @ sample.vehicle_to_common @ invert(turn),
        moments=None if sample.moments is None else sample.moments.turned(turn),
    )


def mirror(sample: Sample) -> Sample:
    """Mirror the world at the x-z plane of the vehicle: left becomes right in every view."""
    width = sample.size[1]
    cameras = [
        replace(
            camera,
            intrinsics=mirrored_intrinsics(camera.intrinsics, width),
            camera_to_vehicle=mirrored_pose(camera.camera_to_vehicle),
        )
        for camera in sample.rig.cameras
    ]
    lidar = sample.lidar.copy()
    lidar[:, 1] = width - 1 - lidar[:, 1]
    return replace(
        sample,
        rig=replace(sample.rig, cameras=tuple(cameras)),
        images=np.ascontiguousarray(sample.images[:, :, ::-1]),
        lidar=lidar,
        dense_depth=np.ascontiguousarray(sample.dense_depth[:, :, ::-1]),
        teacher_disparity=np.ascontiguousarray(sample.teacher_disparity[:, :, ::-1]),
        usable=np.ascontiguousarray(sample.usable[:, :, ::-1]),
        vehicle_to_common=MIRROR @ sample.vehicle_to_common @ MIRROR,
        moments=None if sample.moments is None else sample.moments.mirrored(),
        clean=None if sample.clean is None else np.ascontiguousarray(sample.clean[:, :, ::-1]),
    )


def crop_view(sample: Sample, view: int, top: int, left: int, height: int, width: int) -> Sample:
    """Cut a window (pixels) out of one view and enlarge it to the full size again."""
    size = sample.size
    camera = sample.rig.cameras[view]
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] -= (left, top)
    cropped = replace(camera, size=(height, width), intrinsics=intrinsics).resized(size)
    cameras = tuple(cropped if v == view else other for v, other in enumerate(sample.rig.cameras))
    window = (slice(top, top + height), slice(left, left + width))
    dense, teacher, usable = sample.dense_depth.copy(), sample.teacher_disparity.copy(), sample.usable.copy()

    def enlarged(images: Image) -> Image:
        images = images.copy()
        images[view] = resize(images[view][window], size)
        return images

    usable[view] = cv2.resize(usable[view][window].view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    for depth in (dense, teacher):  # nearest pixel: depths on both sides of an edge must not mix
        depth[view] = cv2.resize(depth[view][window], size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    lidar = sample.lidar.copy()
    own = lidar[:, 0] == view
    lidar[own, 1] = (lidar[own, 1] - left + 0.5) * (size[1] / width) - 0.5
    lidar[own, 2] = (lidar[own, 2] - top + 0.5) * (size[0] / height) - 0.5
    return replace(
        sample,
        rig=replace(sample.rig, cameras=cameras),
        images=enlarged(sample.images),
        lidar=lidar,
        dense_depth=dense,
        teacher_disparity=teacher,
        usable=usable,
        moments=None if sample.moments is None else sample.moments.cropped(view, window),
        clean=None if sample.clean is None else enlarged(sample.clean),
    )


def with_rim(sample: Sample, rows: tuple[int, int], columns: tuple[int, int]) -> Sample:
    """The sample as of cameras that see only the rows and columns from the first to before the end."""
    outside = np.ones(sample.size, dtype=np.bool_)
    outside[slice(*rows), slice(*columns)] = False

    def filled(images: Image) -> Image:
        return np.where(outside[..., None], np.array(FILL, dtype=np.uint8), images)

    x, y = np.rint(sample.lidar[:, 1:3]).astype(np.int64).T
    seen = (y >= rows[0]) & (y < rows[1]) & (x >= columns[0]) & (x < columns[1])
    moments = sample.moments
    return replace(
        sample,
        images=filled(sample.images),
        lidar=sample.lidar[seen],
        dense_depth=np.where(outside, np.float32(np.nan), sample.dense_depth),
        teacher_disparity=np.where(outside, np.float32(np.nan), sample.teacher_disparity),
        usable=sample.usable & ~outside,
        moments=None if moments is None else replace(moments, images=filled(moments.images)),
        clean=None if sample.clean is None else filled(sample.clean),
    )


def drop_views(sample: Sample, views: list[int]) -> Sample:
    """The sample as if the cameras ``views`` had been silent."""
    if not views:
        return sample
    images, present = sample.images.copy(), sample.present.copy()
    dense, teacher = sample.dense_depth.copy(), sample.teacher_disparity.copy()
    images[views], present[views], dense[views], teacher[views] = 0, False, np.nan, np.nan
    lidar = sample.lidar[~np.isin(sample.lidar[:, 0], views)]
    moments = None if sample.moments is None else sample.moments.without(views)
    return replace(
        sample,
        images=images,
        present=present,
        lidar=lidar,
        dense_depth=dense,
        teacher_disparity=teacher,
        moments=moments,
    )


def recolour(images: Image, settings: AugmentSettings, rng: np.random.Generator) -> Image:
    """Random style for the sweep and random camera faults for each view; [V, H, W, 3] uint8 in and out."""
    colours, curve = np.eye(3), np.arange(256.0)
    if rng.random() < settings.style:
        colours, curve = _random_colours(rng), _random_tone_curve(rng)
    if rng.random() < settings.hard_light:
        curve = _stretched(curve, rng)
    if rng.random() < settings.grey:
        colours = np.tile(_LUMA, (3, 1))
    kernel = _random_kernel(rng) if rng.random() < settings.random_filter else None
    result = np.empty_like(images)
    for view, image in enumerate(images):
        if rng.random() < settings.own_body:
            image = cover_with_body(image, rng)
        result[view] = _spoil(_exposed(image, colours, curve, kernel, settings, rng), settings, rng)
    return result


def _crop_views(sample: Sample, settings: AugmentSettings, rng: np.random.Generator) -> Sample:
    height, width = sample.size
    for view in range(len(sample.rig)):
        if rng.random() < settings.crop:
            share = rng.uniform(settings.smallest_crop, 1.0)
            stretch = np.exp(rng.uniform(-0.08, 0.08))  # aspects of other sensors: 16:9 to 16:10 is 0.1 in log
            h = int(np.clip(round(height * share * stretch), 8, height))
            w = int(np.clip(round(width * share / stretch), 8, width))
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            sample = crop_view(sample, view, top, left, h, w)
    return sample


def _random_window(size: tuple[int, int], rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first, end) rows and columns in the middle: of narrow images as of 4:3 or upright, or of wide ones as of 2:1."""
    shares = (1.0, rng.uniform(0.3, 0.95)) if rng.random() < 0.7 else (rng.uniform(0.5, 0.95), 1.0)
    used = [round(share * side) for share, side in zip(shares, size, strict=True)]
    first = [(side - length) // 2 for side, length in zip(size, used, strict=True)]
    return (first[0], first[0] + used[0]), (first[1], first[1] + used[1])


def _random_colours(rng: np.random.Generator) -> Array:
    """[3, 3] colour matrix: white balance, saturation, hue rotation about grey, a little channel mixing."""
    angle = rng.normal(0, 0.15)
    axis = np.ones(3) / np.sqrt(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    hue = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    saturation = rng.uniform(0.2, 1.6)
    saturate = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    mix = np.eye(3) + rng.normal(0, 0.08, (3, 3))
    mix /= mix.sum(1, keepdims=True)  # grey stays grey here; the white balance decides its cast
    balance = np.diag(np.exp(rng.normal(0, 0.12, 3)))
    result: Array = balance @ mix @ saturate @ hue
    return result


def _random_tone_curve(rng: np.random.Generator) -> Array:
    """[256] rising curve from black to white: gamma 0.5 to 2, bent at random, with lifted blacks."""
    x = np.linspace(0, 1, 256)
    bends = np.interp(x, np.linspace(0, 1, 6), np.concatenate([[0], np.cumsum(rng.uniform(0.4, 1.6, 5))]))
    curve = (bends / bends[-1]) ** np.exp(rng.uniform(-0.7, 0.7))
    low, high = rng.uniform(0, 0.12), rng.uniform(0.85, 1.0)
    result: Array = 255 * (low + (high - low) * curve)
    return result


def _stretched(curve: Array, rng: np.random.Generator) -> Array:
    """[256] ``curve`` with more contrast than the 8 bits hold: both ends are clipped, as against the light."""
    middle = 127.0
    result: Array = np.clip((curve - middle) * rng.uniform(1.2, 2.2) + middle + rng.normal(0, 25), 0, 255)
    return result


def _random_kernel(rng: np.random.Generator) -> Array:
    """[k, k] kernel of sum 1: identity blended with noise (RandConv: Xu et al., ICLR 2021)."""
    k = int(rng.choice([3, 5]))
    noise = rng.normal(0, 1 / k, (k, k))
    noise -= noise.mean()
    noise[k // 2, k // 2] += 1
    return noise


def _exposed(
    image: Image,
    colours: Array,
    curve: Array,
    kernel: Array | None,
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Image:
    """Colours, exposure, contrast and tone of one view; the sweep's style, each camera's own exposure."""
    gain = np.exp(rng.normal(0, settings.exposure)) if settings.exposure > 0 else 1.0
    if rng.random() < settings.glare:
        gain *= rng.uniform(1.3, 2.0)
    contrast = np.exp(rng.normal(0, settings.exposure)) if settings.exposure > 0 else 1.0
    offset = (1 - contrast) * float(image.mean()) * gain
    matrix = np.column_stack([gain * contrast * colours, np.full(3, offset)])
    shaded = cv2.transform(image, matrix)
    if kernel is not None:
        shaded = cv2.filter2D(shaded, -1, kernel)
    return cv2.LUT(shaded, np.clip(curve, 0, 255).astype(np.uint8)).astype(np.uint8, copy=False)


def _spoil(image: Image, settings: AugmentSettings, rng: np.random.Generator) -> Image:
    """Blur, noise, JPEG blocks and a patch of dirt, each with its own probability."""
    height, width = image.shape[:2]
    if rng.random() < settings.blur:
        if rng.random() < 0.7:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2)).astype(np.uint8, copy=False)
        else:
            length = int(rng.integers(2, 7))
            image = cv2.blur(image, (length, 1)).astype(np.uint8, copy=False)
    if rng.random() < settings.noise:
        spread = rng.uniform(1, 14)
        grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(spread)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if rng.random() < settings.jpeg:
        quality = int(rng.integers(25, 90))
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    if rng.random() < settings.cutout:
        h, w = int(height * rng.uniform(0.05, 0.3)), int(width * rng.uniform(0.05, 0.3))
        top, left = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
        image = image.copy()
        image[top : top + h, left : left + w] = rng.integers(0, 256, 3)
    return image
