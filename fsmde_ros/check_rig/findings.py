"""What looks wrong in a rig, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fsmde_ros.check_rig.coverage import coverage
from fsmde_ros.checkpoint import checkpoints_for
from fsmde_ros.geometry import invert
from fsmde_ros.model_card import ModelCard
from fsmde_ros.mounting import Mounting, mounting, mountings
from fsmde_ros.network_view import quarter_turns
from fsmde_ros.rectify import undistortion_maps
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.trained_cameras import advice

FAR = 20.0  # metres, where the ring is looked at for gaps
AT_ROAD, LOW = 0.1, 0.3  # metres above the road, of the highest camera: on no vehicle; on a low robot, or by an error
HIGHEST = 5.0  # metres above the road; a lorry with cameras on its roof is about 4 m high
FAR_OFF = 30.0  # metres from the origin of the vehicle frame: longer than any vehicle
STEEP, UPRIGHT = 30.0, 60.0  # degrees of pitch: worth a word; not a camera's optical frame any more
TILTED = 12.0  # degrees of roll: worth a word
NARROWEST, WIDEST = 10.0, 150.0  # degrees that a pinhole camera can have in the field
OFF_CENTRE = 0.15  # of the image's side, between its middle and the principal point
SQUARE = 1.25  # ratio of the focal lengths; pixels are square in nearly all cameras
ROAD_ERROR = 0.3  # metres
MUCH_LOST = 0.75  # of the width or height of a lens's image that is left after rectifying
SAME_PLACE, SAME_DIRECTION = 0.02, 2.0  # metres, degrees

NAMED = 60.0  # degrees between the direction of a camera and what its name says
_BACK = {"back", "rear"}
PAIR_APART, PAIR_DIRECTION = 1.0, 10.0  # metres, degrees: left and right of a stereo pair, which look the same way


@dataclass(frozen=True)
class Finding:
    """One thing to look at. ``camera`` is empty where it concerns the whole rig."""

    level: Literal["warning", "note"]
    camera: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.camera + ': ' if self.camera else ''}{self.text}"


def examine(rig: Rig) -> tuple[Finding, ...]:
    """All findings, those of single cameras first, in the order of the rig."""
    found = list(_vehicle_frame(rig))
    lonely = all(finding.level == "note" for finding in found)
    for camera in rig.cameras:
        at = mounting(camera, rig.ground_z)
        texts = [*_position(camera, at, lonely), *_direction(at, quarter_turns(camera)), *_lens(camera, at)]
        if not _is_of_a_stereo_pair(camera, rig):
            texts += _name(at)
        found += [Finding("warning", camera.name, text) for text in texts]
    return (*found, *_twins(rig), *_gaps(rig))


def examine_road(rig: Rig, road_z: float) -> tuple[Finding, ...]:
    """Whether the road that a LiDAR saw at ``road_z`` (vehicle frame, metres) is where the rig says it is."""
    error = road_z - rig.ground_z
    if abs(error) <= ROAD_ERROR:
        return ()
    text = (
        f"the LiDAR sees the road at z = {road_z:.2f} m of '{rig.vehicle_frame}', the rig file says ground_z = "
        f"{rig.ground_z:.2f} m; metric scale depends on it: set ground_z: {road_z:.2f}, or correct the LiDAR's place"
    )
    return (Finding("warning", "", text),)


def examine_training(rig: Rig, card: ModelCard) -> tuple[Finding, ...]:
    """Which cameras are beyond what the student of ``card`` was trained on; nothing is wrong with the rig then."""
    beyond = {} if card.cameras is None else card.cameras.beyond(rig, card.input_size)
    if not beyond:
        return ()
    found = [Finding("note", name, f"model {card.name} knows no such camera: {text}") for name, text in beyond.items()]
    return (*found, Finding("note", "", f"its depth may be far off there: {advice(checkpoints_for(rig))}"))


def _vehicle_frame(rig: Rig) -> Iterator[Finding]:
    """The whole rig at or near the road: the vehicle frame is at the height of the sensors, or the robot is low."""
    heights = [at.height for at in mountings(rig)]
    if len(heights) < 2 or max(heights) >= LOW:
        return
    span = f"(heights {min(heights):.2f} to {max(heights):.2f} m)"
    if max(heights) < AT_ROAD:
        yield Finding(
            "warning",
            "",
            f"every camera is less than {AT_ROAD} m above the road {span}; the origin of '{rig.vehicle_frame}' seems "
            "to be at the sensors: set ground_z to the height of the road in that frame, a negative number",
        )
    else:
        yield Finding(
            "note",
            "",
            f"every camera is less than {LOW} m above the road {span}, as on a low robot; if the origin of "
            f"'{rig.vehicle_frame}' is not on the road, measure the height of the road in that frame and set ground_z",
        )


def _position(camera: Camera, at: Mounting, lonely: bool) -> Iterator[str]:
    distance = float(np.linalg.norm(camera.camera_to_vehicle[:3, 3]))
    if distance > FAR_OFF:
        yield f"is {distance:.0f} m from the vehicle's origin; translations are in metres, were they millimetres?"
    elif at.height > HIGHEST:
        yield f"is {at.height:.2f} m above the road; check z of its translation, and ground_z"
    elif at.height < 0.05 and lonely:
        turned_round = mounting(replace(camera, camera_to_vehicle=invert(camera.camera_to_vehicle)))
        if 0.3 < turned_round.height < HIGHEST and abs(turned_round.roll) < TILTED:
            yield (
                f"is {-at.height:.2f} m below the road, and would be upright at {turned_round.height:.2f} m if the "
                "transform were the other way round; the file wants camera_to_vehicle, not vehicle_to_camera"
            )
        else:
            yield f"is {-at.height:.2f} m below the road; check z of its translation, and ground_z"


def _direction(at: Mounting, turns: int) -> Iterator[str]:
    """``turns``: quarter turns by which the network gets the images (``NetworkView``)."""
    if abs(at.pitch) > UPRIGHT:
        yield (
            f"looks {'up' if at.pitch > 0 else 'down'} (pitch {at.pitch:.0f} degrees): its frame is probably not the "
            "optical one; expected z along the optical axis, x to the right, y down (REP 103), often called "
            "<camera>_optical_frame"
        )
        return
    if abs(at.pitch) > STEEP:
        yield f"looks steeply {'up' if at.pitch > 0 else 'down'} (pitch {at.pitch:.0f} degrees)"
    if turns == 2:
        yield (
            f"hangs upside down (roll {at.roll:.0f} degrees); its images are turned for the network, but if they are "
            "upright as they come, the rotation is wrong by half a turn"
        )
    elif turns:
        yield (
            f"lies on its side (roll {at.roll:.0f} degrees); its images are turned for the network, "
            "but if they are upright as they come, the rotation is wrong by a quarter turn"
        )
    elif abs(at.roll) > TILTED:
        yield f"is tilted (roll {at.roll:.0f} degrees)"


def _lens(camera: Camera, at: Mounting) -> Iterator[str]:
    (height, width), k = camera.size, camera.intrinsics
    widest = max(at.horizontal_fov, at.vertical_fov)
    if at.horizontal_fov < NARROWEST or widest > WIDEST:
        yield (
            f"its field of view is {at.horizontal_fov:.0f} x {at.vertical_fov:.0f} degrees; are the focal lengths "
            f"({k[0, 0]:.0f}, {k[1, 1]:.0f} pixels) those of images of {width}x{height} pixels?"
        )
    if not (-0.5 <= k[0, 2] <= width - 0.5 and -0.5 <= k[1, 2] <= height - 0.5):
        yield (
            f"its principal point ({k[0, 2]:.0f}, {k[1, 2]:.0f}) is outside its image of {width}x{height} pixels; "
            "the intrinsics belong to another image size"
        )
    elif abs(k[0, 2] / width - 0.5) > OFF_CENTRE or abs(k[1, 2] / height - 0.5) > OFF_CENTRE:
        yield (
            f"its principal point ({k[0, 2]:.0f}, {k[1, 2]:.0f}) is far from the middle of its image of "
            f"{width}x{height} pixels; do the intrinsics belong to this image size?"
        )
    kept = _kept_by_rectifying(camera)
    if min(kept) < MUCH_LOST:
        yield (
            f"the node uses the middle {100 * kept[0]:.0f} x {100 * kept[1]:.0f} % of this lens's image, "
            f"{at.horizontal_fov:.0f} x {at.vertical_fov:.0f} degrees: rectified to a pinhole of the same intrinsics, "
            "a fisheye loses its rim, where there will be no depth"
        )
    if not 1 / SQUARE < k[0, 0] / k[1, 1] < SQUARE:
        yield f"its focal lengths differ ({k[0, 0]:.0f}, {k[1, 1]:.0f} pixels); were the images stretched?"


def _kept_by_rectifying(camera: Camera) -> tuple[float, float]:
    """Shares of the width and height of the raw image, through its middle, that the rectified one shows."""
    if camera.is_rectified:
        return 1.0, 1.0
    x, y = undistortion_maps(camera)
    (height, width), (column, row) = camera.size, camera.intrinsics[:2, 2]
    along = x[int(np.clip(row, 0, height - 1))].clip(0, width - 1)
    down = y[:, int(np.clip(column, 0, width - 1))].clip(0, height - 1)
    return float(np.ptp(along) + 1) / width, float(np.ptp(down) + 1) / height


def _name(at: Mounting) -> Iterator[str]:
    """A camera that is called front and looks to the left: the usual sign of an error of 90 degrees."""
    expected = direction_of_name(at.name)
    if expected is None or abs(at.pitch) > UPRIGHT:
        return
    error = abs((at.yaw - expected + 180) % 360 - 180)
    if error > NAMED:
        yield (
            f"looks to {at.yaw:.0f} degrees (left of straight ahead), which does not fit its name; expected about "
            f"{expected:.0f}: check its rotation (an error of a quarter turn?) and that names were not swapped"
        )


def _is_of_a_stereo_pair(camera: Camera, rig: Rig) -> bool:
    """Whether a camera called left, without front or back, has one called right beside it that looks the same way."""
    side = direction_of_name(camera.name)
    if side is None or abs(side) != 90:
        return False
    opposite = [_apart(camera, other) for other in rig.cameras if direction_of_name(other.name) == -side]
    return any(metres < PAIR_APART and degrees < PAIR_DIRECTION for metres, degrees in opposite)


def direction_of_name(name: str) -> float | None:
    """Degrees to the left of straight ahead that a name such as ``cam_back_left`` stands for; None for others."""
    words = set(re.findall("[a-z]+", name.lower()))
    side = ("left" in words) - ("right" in words)
    if "front" in words:
        return 50.0 * side
    if words & _BACK:
        return 125.0 * side if side else 180.0
    return 90.0 * side if side else None


def _twins(rig: Rig) -> Iterator[Finding]:
    for i, first in enumerate(rig.cameras):
        for second in rig.cameras[i + 1 :]:
            apart, degrees = _apart(first, second)
            if apart < SAME_PLACE and degrees < SAME_DIRECTION:
                yield Finding("warning", second.name, f"is at the same place and looks the same way as {first.name}")


def _apart(first: Camera, second: Camera) -> tuple[float, float]:
    """Metres between two cameras, and degrees between their optical axes."""
    metres = float(np.linalg.norm(first.camera_to_vehicle[:3, 3] - second.camera_to_vehicle[:3, 3]))
    cosine = float(first.camera_to_vehicle[:3, 2] @ second.camera_to_vehicle[:3, 2])
    return metres, float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _gaps(rig: Rig) -> Iterator[Finding]:
    """Blind spots: a warning where the lenses would do for a full turn, a note where they would not."""
    ring, total = coverage(rig, FAR), sum(at.level_fov for at in mountings(rig))
    for start, end in ring.gaps:
        text = f"no camera sees from {start:.0f} to {end:.0f} degrees (left of straight ahead, {FAR:.0f} m away)"
        if total >= 360:
            text += f"; the fields of view sum to {total:.0f} degrees: check the yaw of the cameras beside the gap"
        yield Finding("warning" if total >= 360 else "note", "", text)
