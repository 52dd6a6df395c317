"""One training sample (numpy) and a batch of them (torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsmde_ros.adjacency import adjacent_pairs
from fsmde_ros.geometry import compose, invert
from fsmde_ros.network_view import NetworkView, network_views
from fsmde_ros.rig import Rig
from fsmde_ros.self_occlusion import are_usable, usable_pixels
from fsmde_ros.sweep import Sweep, lidar_in_view
from training.moments import Moments, two_moments


@dataclass(frozen=True, eq=False)
class Sample:
    """A sweep at network size, still as numpy, with what is known of its depth.

    Attributes:
        rig: V cameras, all of size (H, W).
        images: [V, H, W, 3] uint8 RGB; zeros where a view is missing.
        present: [V] bool.
        lidar: [M, 4] float32: index of the view, x, y (pixels at network size), depth (m). Points, not
            a raster, so that a crop moves them without rounding.
        dense_depth: [V, H, W] float32 metres, NaN = no value, +inf = sky.
        teacher_disparity: [V, H, W] float32 up to one scale and shift of the sweep, NaN = no value.
        usable: [V, H, W] bool, pixels that show the surroundings, whether or not the view is present: neither the rim
            of an input nor the vehicle itself. Only these teach.
        vehicle_to_common: [V, 4, 4] from the vehicle at the exposure of each view to the vehicle at that of the first
            one: what it drove between them. The identity where poses are not known.
        moments: the same cameras a moment before or after, where that is known and asked for.
        clean: [V, H, W, 3] uint8 RGB, the images before they were recoloured; none where they were not.
    """

    rig: Rig
    images: NDArray[np.uint8]
    present: NDArray[np.bool_]
    lidar: NDArray[np.float32]
    dense_depth: NDArray[np.float32]
    teacher_disparity: NDArray[np.float32]
    usable: NDArray[np.bool_]
    vehicle_to_common: NDArray[np.float64]
    moments: Moments | None = None
    clean: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of all views."""
        return self.rig.cameras[0].size

    def lidar_depth(self) -> NDArray[np.float32]:
        """[V, H, W] metres, NaN = no point; of several points in a pixel the nearest counts."""
        raster = np.full((len(self.rig), *self.size), np.inf, dtype=np.float32)
        view = self.lidar[:, 0].astype(np.int64)
        x, y = np.rint(self.lidar[:, 1]).astype(np.int64), np.rint(self.lidar[:, 2]).astype(np.int64)
        height, width = self.size
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        np.minimum.at(raster, (view[inside], y[inside], x[inside]), self.lidar[inside, 3])
        raster[np.isinf(raster)] = np.nan
        return raster


class SweepBatch(NamedTuple):
    """B samples with V views; rigs with fewer views are padded with views that are not present.

    Shapes: images [B, V, 3, H, W] uint8 RGB; clean, the same before they were recoloured; intrinsics [B, V, 3, 3] at
    (H, W); camera_to_vehicle [B, V, 4, 4]; camera_to_common [B, V, 4, 4], the same by way of
    ``Sample.vehicle_to_common``; ground_z [B] m; present [B, V] bool; lidar_depth, dense_depth [B, V, H, W] m (NaN =
    no value, +inf = sky); teacher_disparity [B, V, H, W] (NaN = no value); usable [B, V, H, W] bool, of views that are
    present; adjacent [B, V, V] bool, the views whose
    frusta overlap, both present. Of a second moment (see ``Moments``; U is V, or 0 where no sample has one): moments
    [B, U, 2, 3, H, W] uint8, motion [B, U, 4, 4], has_moments [B, U] bool.
    """

    images: Tensor
    clean: Tensor
    intrinsics: Tensor
    camera_to_vehicle: Tensor
    camera_to_common: Tensor
    ground_z: Tensor
    present: Tensor
    lidar_depth: Tensor
    dense_depth: Tensor
    teacher_disparity: Tensor
    usable: Tensor
    adjacent: Tensor
    moments: Tensor
    motion: Tensor
    has_moments: Tensor


def sample_from_sweep(sweep: Sweep, size: tuple[int, int], dense_depth: NDArray[np.float32] | None = None) -> Sample:
    """The views of a sweep as the node gives them to a network (``NetworkView``), and where its LiDAR lies in them.

    LiDAR is projected at the stamp of each view; points on pixels that can have no depth (``are_usable``), such as
    those on the vehicle itself, are left out. ``dense_depth``: [V, h, w] of the images as they come (m, +inf = sky).
    Raises ImageError for a view that cannot be decoded or has another size than its camera.
    """
    views = network_views(sweep.rig, size)
    resized = Sweep(sweep.rig.rectified().resized(size), sweep.stamp_ns, sweep.views, sweep.lidar)
    points = [np.zeros((0, 4), dtype=np.float32)]
    for index, (name, view) in enumerate(zip(sweep.rig.names, views, strict=True)):
        if name not in sweep.views:
            continue
        pixels, depth = lidar_in_view(resized, name)
        usable = are_usable(sweep.rig[name], size, pixels)
        pixels, depth = view.pixels(pixels[usable]), depth[usable]
        points.append(np.column_stack([np.full(len(depth), index), pixels, depth]).astype(np.float32))
    nothing = np.full((len(views), *size), np.nan, dtype=np.float32)
    dense = nothing.copy()
    if dense_depth is not None:
        for index, (view, depth) in enumerate(zip(views, dense_depth, strict=True)):
            dense[index] = view.place(depth.astype(np.float32), np.nan)
    return Sample(
        rig=replace(sweep.rig, cameras=tuple(view.camera for view in views)),
        images=_view_images(sweep, size),
        present=np.array([name in sweep.views for name in sweep.rig.names]),
        lidar=np.concatenate(points),
        dense_depth=dense,
        teacher_disparity=nothing,
        usable=np.stack([_usable(view) for view in views]),
        vehicle_to_common=_vehicle_to_common(sweep),
    )


def _vehicle_to_common(sweep: Sweep) -> NDArray[np.float64]:
    """[V, 4, 4], see ``Sample``: relative, as float32 would round a pose in a map by centimetres."""
    result = np.tile(np.eye(4), (len(sweep.rig), 1, 1))
    first: NDArray[np.float64] | None = None
    for index, name in enumerate(sweep.rig.names):
        pose = sweep.views[name].vehicle_to_map if name in sweep.views else None
        if pose is not None:
            first = pose if first is None else first
            result[index] = compose(invert(first), pose)
    return result


def with_moments(sample: Sample, sweep: Sweep, other: Sweep) -> Sample:
    """The sample of ``sweep``, not augmented, beside a sweep a moment before or after (``are_consecutive``).

    Raises ImageError where a view of ``other`` cannot be used.
    """
    return replace(sample, moments=two_moments(sweep, other, sample.images, _view_images(other, sample.size)))


def _usable(view: NetworkView) -> NDArray[np.bool_]:
    """[H, W], see ``Sample``."""
    usable = usable_pixels(view.given, view.size)
    everywhere = np.ones(view.size, dtype=np.bool_)
    return view.place(everywhere if usable is None else usable, False)


def _view_images(sweep: Sweep, size: tuple[int, int]) -> NDArray[np.uint8]:
    """[V, H, W, 3], the inputs of the network; zeros where a view is missing.

    The pixels that the student will be given; but for one with an ``input_reduction``, for which the estimator may
    decode a JPEG smaller still: here a crop may enlarge what it would not see.
    """
    images = np.zeros((len(sweep.rig), *size, 3), dtype=np.uint8)
    for image, view in zip(images, network_views(sweep.rig, size), strict=True):
        if view.given.name in sweep.views:
            image[:] = view.image(sweep.views[view.given.name].image)
    return images


def with_lidar_between(sample: Sample, low: float, high: float) -> Sample:
    """The sample with only the LiDAR points of a depth from ``low`` to ``high``, metres."""
    depth = sample.lidar[:, 3]
    return replace(sample, lidar=sample.lidar[(depth >= low) & (depth <= high)])


def select_views(sample: Sample, order: Sequence[int]) -> Sample:
    """The sample with only the views ``order``, in that order."""
    position = {view: place for place, view in enumerate(order)}
    kept = np.isin(sample.lidar[:, 0], list(order))
    lidar = sample.lidar[kept].copy()
    lidar[:, 0] = [position[int(view)] for view in lidar[:, 0]]
    index = np.asarray(order, dtype=np.int64)
    return replace(
        sample,
        rig=sample.rig.subset(sample.rig.names[view] for view in order),
        images=sample.images[index],
        present=sample.present[index],
        lidar=lidar,
        dense_depth=sample.dense_depth[index],
        teacher_disparity=sample.teacher_disparity[index],
        usable=sample.usable[index],
        vehicle_to_common=sample.vehicle_to_common[index],
        moments=None if sample.moments is None else sample.moments.select(order),
        clean=None if sample.clean is None else sample.clean[index],
    )


def collate(samples: Sequence[Sample]) -> SweepBatch:
    """Stack samples of one size; see ``SweepBatch``."""
    views = max(len(sample.rig) for sample in samples)

    def stack(arrays: Sequence[NDArray[np.generic]], fill: float) -> Tensor:
        padded = [
            np.concatenate([array, np.full((views - len(array), *array.shape[1:]), fill, dtype=array.dtype)])
            for array in arrays
        ]
        return torch.from_numpy(np.stack(padded))

    def camera_matrices(matrices: Sequence[NDArray[np.float64]]) -> Tensor:
        # padded with the first camera, not with zeros: rays of every view must stay finite
        padded = [np.concatenate([m, np.repeat(m[:1], views - len(m), axis=0)]) for m in matrices]
        return torch.from_numpy(np.stack(padded)).float()

    def pictures(views: Sequence[NDArray[np.uint8]]) -> Tensor:
        return stack(views, 0).permute(0, 1, 4, 2, 3).contiguous()

    adjacent = torch.zeros(len(samples), views, views, dtype=torch.bool)
    for b, sample in enumerate(samples):
        for i, j in adjacent_pairs(_shown(sample)):
            adjacent[b, i, j] = adjacent[b, j, i] = bool(sample.present[i] and sample.present[j])
    moments, motion, has_moments = _collated_moments(samples, views)
    return SweepBatch(
        images=pictures([sample.images for sample in samples]),
        clean=pictures([sample.images if sample.clean is None else sample.clean for sample in samples]),
        intrinsics=camera_matrices([sample.rig.intrinsics() for sample in samples]),
        camera_to_vehicle=camera_matrices([sample.rig.camera_to_vehicle() for sample in samples]),
        camera_to_common=camera_matrices(
            [sample.vehicle_to_common @ sample.rig.camera_to_vehicle() for sample in samples]
        ),
        ground_z=torch.tensor([sample.rig.ground_z for sample in samples], dtype=torch.float32),
        present=stack([sample.present for sample in samples], 0),
        lidar_depth=stack([sample.lidar_depth() for sample in samples], np.nan),
        dense_depth=stack([sample.dense_depth for sample in samples], np.nan),
        teacher_disparity=stack([sample.teacher_disparity for sample in samples], np.nan),
        usable=stack([sample.usable & sample.present[:, None, None] for sample in samples], False),
        adjacent=adjacent,
        moments=moments,
        motion=motion,
        has_moments=has_moments,
    )


def _shown(sample: Sample) -> Rig:
    """The rig of a sample, each camera with only the rows and columns in which there is anything usable."""
    cameras = []
    for camera, usable in zip(sample.rig.cameras, sample.usable, strict=True):
        rows, columns = (np.flatnonzero(usable.any(axis)) for axis in (1, 0))
        if len(rows):
            intrinsics = camera.intrinsics.copy()
            intrinsics[:2, 2] -= (columns[0], rows[0])
            size = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
            camera = replace(camera, size=size, intrinsics=intrinsics)
        cameras.append(camera)
    return replace(sample.rig, cameras=tuple(cameras))


def _collated_moments(samples: Sequence[Sample], views: int) -> tuple[Tensor, Tensor, Tensor]:
    """``moments``, ``motion`` and ``has_moments`` of ``SweepBatch`` for samples that are padded to ``views``."""
    if all(sample.moments is None for sample in samples):
        views = 0
    moments = torch.zeros(len(samples), views, 2, 3, *samples[0].size, dtype=torch.uint8)
    motion = torch.eye(4).repeat(len(samples), views, 1, 1)
    has_moments = torch.zeros(len(samples), views, dtype=torch.bool)
    for b, sample in enumerate(samples):
        if sample.moments is not None:
            v = len(sample.rig)
            moments[b, :v] = torch.from_numpy(sample.moments.images).permute(0, 1, 4, 2, 3)
            motion[b, :v] = torch.from_numpy(sample.moments.motion).float()
            has_moments[b, :v] = torch.from_numpy(sample.moments.known & sample.present)
    return moments, motion, has_moments
