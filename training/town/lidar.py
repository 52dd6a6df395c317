"""A spinning LiDAR that scans the town while the car moves.

The sensor turns clockwise and fires its beams in packets; a packet covers a few columns (5 columns
take 0.23 ms at 20 Hz) and has one time, one pose of the car and one state of everything that
moves. The points are put into the vehicle frame at the end of the turn, so the motion of the car
is compensated and that of other road users is not: exactly what a real recording holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import invert, transform
from training.town.primitives import Material
from training.town.raycast import SKY, Hits, cast, tiles_around
from training.town.world import World

Array = NDArray[np.float64]

TILE_BEAMS = 8  # beams of a packet cast together; taller tiles would meet too many primitives
TILE_MARGIN = 2e-4  # rad; rows of equal elevation bulge out of the planes through a tile's corners
PARENT_PACKETS = 12  # neighbours that are tested against the whole town together
PARENT_MARGIN = 0.02  # rad; the car turns by less while they are fired,
PARENT_SLACK = 0.3  # m; and moves by less
LONGEST_CAST_S = 0.06  # things move in straight lines within one cast, so long turns are split
GROUND_REFLECTANCE = 0.2  # of asphalt and paving in the near infrared
GLASS_LOSS = 0.65  # share of the beams that go through or are mirrored away


@dataclass(frozen=True)
class SpinningLidar:
    """A spinning LiDAR; angles in degrees, lengths in metres.

    Attributes:
        name: of the sensor: its topic and its frame.
        position: of the sensor in the vehicle frame.
        lowest, highest: elevation of the first and last beam, evenly spaced between.
        beams: number of beams, the lowest is ring 0.
        columns: directions of azimuth in a turn.
        packet: columns fired at one time; divides ``columns``.
        start_azimuth: where a turn begins and ends, to the left of forward. Just before the axis of
            the back left camera, as on the nuScenes cars.
        min_range, max_range: distances along the ray that are reported.
        range_noise: standard deviation along the ray.
        random_loss: share of the returns lost for no reason.
        threshold: ``reflectance * cos(incidence) / range^2`` (1/m^2) at which 63 % of the pulses return.
    """

    name: str = "lidar_top"
    position: tuple[float, float, float] = (0.94, 0.0, 1.84)
    lowest: float = -30.67
    highest: float = 10.67
    beams: int = 32
    columns: int = 1085
    packet: int = 5
    start_azimuth: float = 106.4
    min_range: float = 1.0
    max_range: float = 100.0
    range_noise: float = 0.02
    random_loss: float = 0.015
    threshold: float = 8e-6  # half of the road is lost at 40 m, half of a black wall at 105 m

    def __post_init__(self) -> None:
        if self.packet < 1 or self.columns % self.packet:
            raise ConfigError(f"columns must be a multiple of packet ({self.packet}), got {self.columns}")
        if self.beams < 2 or not -90 < self.lowest < self.highest < 90:
            raise ConfigError(
                "a LiDAR must have 2 beams or more from lowest to highest within -90 to 90 degrees, got "
                f"{self.beams} from {self.lowest} to {self.highest}"
            )
        if not 0 <= self.min_range < self.max_range:
            raise ConfigError(f"ranges must be 0 <= min_range < max_range, got {self.min_range}, {self.max_range}")

    @property
    def sensor_to_vehicle(self) -> Array:
        """Mounting [4, 4] as on the nuScenes cars: x of the sensor to the right of the car, y forward."""
        matrix = np.eye(4)
        matrix[:3, :3] = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
        matrix[:3, 3] = self.position
        return matrix


# Velodyne HDL-32E of the nuScenes cars; angles from its manual.
HDL32E = SpinningLidar()
# The merged long-range LiDARs of the DDAD cars, thinned to about the density of their scans.
DDAD_LIDAR = SpinningLidar(
    name="lidar",
    position=(1.0, 0.0, 1.9),
    lowest=-25.0,
    highest=8.0,
    beams=64,
    columns=1080,
    max_range=200.0,
    threshold=1.5e-6,
)


@dataclass(frozen=True, eq=False)
class Turn:
    """What one turn returned.

    Attributes:
        points_vehicle: [N, 3] metres, vehicle frame at the end of the turn.
        intensity: [N] float32, 0 to 255.
        ring: [N] int32, index of the beam from below.
        time: [N] seconds in the town when the point was measured.
    """

    points_vehicle: Array
    intensity: NDArray[np.float32]
    ring: NDArray[np.int32]
    time: Array


def scan_turn(world: World, lidar: SpinningLidar, end_s: float, period_s: float, rng: np.random.Generator) -> Turn:
    """One turn of the LiDAR that ends at ``end_s`` (seconds in the town) and takes ``period_s``.

    ``rng`` decides noise and lost returns; the same generator state gives the same points.
    """
    packets = _packets(world, lidar, end_s, period_s)
    parts = np.array_split(np.arange(len(packets.times)), max(1, int(np.ceil(period_s / LONGEST_CAST_S))))
    results = [_cast_packets(world, lidar, packets.subset(part)) for part in parts]
    distance, signal, reflectance, loss = (np.concatenate(arrays) for arrays in zip(*results, strict=True))
    noise = rng.normal(0, lidar.range_noise, distance.shape)
    strength = signal * rng.lognormal(0, 0.2, distance.shape)
    chance = (1 - lidar.random_loss) * (1 - loss) * (1 - np.exp(-strength / lidar.threshold))
    returned = rng.random(distance.shape) < chance
    kept = returned & (distance >= lidar.min_range) & (distance <= lidar.max_range)
    packet, ray = np.nonzero(kept)
    measured = (distance + noise)[kept]
    points_map = packets.origins[packet] + packets.directions[packet, ray] * measured[:, None]
    map_to_vehicle = invert(world.vehicle_to_map(end_s))
    # sensors correct the intensity for the distance, so it follows the surface
    intensity = np.clip(reflectance[kept] * 255 * rng.lognormal(-0.4, 0.3, len(packet)), 0, 255)
    return Turn(
        points_vehicle=transform(map_to_vehicle, points_map),
        intensity=np.round(intensity).astype(np.float32),
        ring=(ray % lidar.beams).astype(np.int32),
        time=packets.times[packet],
    )


@dataclass(frozen=True, eq=False)
class _Packets:
    """N packets of R rays in the order of firing, map frame.

    Attributes:
        times: [N] seconds.
        origins: [N, 3] metres, of the sensor.
        directions: [N, R, 3] unit, column by column, each from the lowest beam up.
        corners: [N, G, 4, 3] directions that enclose the rays of G groups of beams.
        around: [N, 4, 3] directions that enclose all rays with room to spare.
    """

    times: Array
    origins: Array
    directions: Array
    corners: Array
    around: Array

    def subset(self, part: NDArray[np.intp]) -> _Packets:
        """The packets of some indices."""
        arrays = (self.times, self.origins, self.directions, self.corners, self.around)
        return _Packets(*(array[part] for array in arrays))


def _packets(world: World, lidar: SpinningLidar, end_s: float, period_s: float) -> _Packets:
    """The packets of a turn that ends at ``end_s``."""
    count = lidar.columns // lidar.packet
    times = end_s + period_s * ((np.arange(count) + 0.5) / count - 1)
    poses = np.stack([np.asarray(world.vehicle_to_map(float(t)), dtype=np.float64) for t in times])
    rotations = poses[:, :3, :3]
    rays = _unit(_azimuths(lidar)[:, :, None], _elevations(lidar)).reshape(count, -1, 3)
    everything = [np.arange(lidar.beams)]
    return _Packets(
        times=times,
        origins=rotations @ np.asarray(lidar.position) + poses[:, :3, 3],
        directions=np.einsum("nij,nrj->nri", rotations, rays),
        corners=np.einsum("nij,ngcj->ngci", rotations, _corners(lidar, _groups(lidar), TILE_MARGIN)),
        around=np.einsum("nij,ncj->nci", rotations, _corners(lidar, everything, PARENT_MARGIN)[:, 0]),
    )


def _elevations(lidar: SpinningLidar) -> Array:
    """Elevation of every ring, radians."""
    return np.radians(np.linspace(lidar.lowest, lidar.highest, lidar.beams))


def _azimuths(lidar: SpinningLidar) -> Array:
    """Azimuth [packets, packet] of every column in the vehicle frame, radians, turning clockwise."""
    turned = 2 * np.pi * (np.arange(lidar.columns) + 0.5) / lidar.columns
    return (np.radians(lidar.start_azimuth) - turned).reshape(-1, lidar.packet)


def _unit(azimuth: Array, elevation: Array) -> Array:
    """Unit vectors [..., 3] of the vehicle frame."""
    azimuth, elevation = np.broadcast_arrays(azimuth, elevation)
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1)


def _groups(lidar: SpinningLidar) -> list[NDArray[np.intp]]:
    """Beams that make a tile together, equally many in each."""
    groups = np.array_split(np.arange(lidar.beams), max(1, lidar.beams // TILE_BEAMS))
    return groups if lidar.beams % len(groups) == 0 else [np.arange(lidar.beams)]


def _corners(lidar: SpinningLidar, groups: list[NDArray[np.intp]], margin: float) -> Array:
    """Directions [packets, groups, 4, 3] around groups of beams in the vehicle frame: left, right, low to high."""
    azimuths, elevations = _azimuths(lidar), _elevations(lidar)
    left, right = azimuths[:, 0] + margin, azimuths[:, -1] - margin
    low = np.array([elevations[group[0]] for group in groups]) - margin
    high = np.array([elevations[group[-1]] for group in groups]) + margin
    around = ((left, low), (right, low), (right, high), (left, high))
    return np.stack([_unit(azimuth[:, None], elevation) for azimuth, elevation in around], axis=2)


def _cast_packets(world: World, lidar: SpinningLidar, packets: _Packets) -> list[Array]:
    """Distance (inf = none), signal (1/m^2), reflectance and loss of every ray, each [packets, rays]."""
    count, groups = packets.corners.shape[:2]
    device = world.device

    def tensor(array: Array) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)

    origins = tensor(np.repeat(packets.origins, groups, axis=0))
    times = torch.as_tensor(np.repeat(packets.times, groups))
    # [packets, columns, groups, beams, 3] to tiles of the beams of one group
    rays = packets.directions.reshape(count, lidar.packet, groups, -1, 3).transpose(0, 2, 1, 3, 4)
    directions = tensor(rays.reshape(count * groups, -1, 3))
    fine = tiles_around(origins, tensor(packets.corners.reshape(-1, 4, 3)))
    first = np.arange(0, count, PARENT_PACKETS)
    last = np.minimum(first + PARENT_PACKETS, count) - 1
    # the left side of the first packet, the right side of the last
    enclosing = np.stack([packets.around[which, c] for c, which in enumerate((first, last, last, first))], axis=1)
    parents = tiles_around(tensor(packets.origins[first]), tensor(enclosing), slack=PARENT_SLACK)
    parent = torch.as_tensor(np.repeat(np.arange(count) // PARENT_PACKETS, groups), device=device)
    tiles = replace(fine, parent=parent, parents=parents)
    hits = cast(world, times, origins, directions, tiles, lidar.max_range)
    tiled = (hits.distance, *_returned(world, float(times.mean()), hits, directions))
    shape = (count, groups, lidar.packet, -1)
    return [a.cpu().double().numpy().reshape(shape).transpose(0, 2, 1, 3).reshape(count, -1) for a in tiled]


def _returned(world: World, t: float, hits: Hits, directions: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Signal (reflectance * cos(incidence) / range^2, 0 = sky), reflectance, loss of hits, each [T, P]."""
    primitives = world.primitives_at(t)
    index = hits.primitive.clamp_min(0)
    solid = hits.primitive >= 0
    reflectance = 0.05 + 0.75 * primitives.color[index].mean(-1)  # black paint returns some infrared too
    reflectance = torch.where(solid, reflectance, GROUND_REFLECTANCE)
    loss = torch.where(solid & (primitives.material[index] == Material.GLASS), GLASS_LOSS, 0.0)
    cosine = (hits.normal * directions).sum(-1).abs()
    signal = torch.where(hits.primitive == SKY, 0.0, reflectance * cosine / hits.distance.square().clamp_min(1.0))
    return signal, reflectance, loss
