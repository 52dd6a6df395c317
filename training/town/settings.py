"""Knobs of the town, with the reason for each."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from fsmde_ros.errors import ConfigError

Range = tuple[float, float]


@dataclass(frozen=True)
class TownSettings:
    """What a drive is drawn from; a pair is the range of a uniform draw, a probability is in [0, 1].

    The defaults are wide on purpose: the student has to carry over to real streets, so no single
    cue (a lane width, a wall colour, a horizon) may be reliable.
    """

    lane_width: Range = (2.9, 3.8)  # m; old Boston lanes to motorway lanes
    lanes: tuple[int, int] = (1, 3)  # each way; wide roads move the walls away from the cameras
    sidewalk: Range = (1.5, 5.0)  # m
    setback: Range = (0.0, 9.0)  # m between sidewalk and buildings: front gardens and forecourts
    kerb: Range = (0.06, 0.17)  # m
    cross_spacing: Range = (55.0, 140.0)  # m between junctions of the main street
    turn_probability: float = 0.3  # the car turns at a junction: yaw and fresh views
    bend: Range = (0.0, 14.0)  # m, amplitude of the bends of a street
    slope: Range = (0.0, 2.0)  # m, amplitude of the ground over 120-300 m: pitch and roll of the rig, up to 7 %
    # Rise per metre over 20-60 m. The car tilts with long waves, so that the ground around it stays a plane of its
    # own frame; with short ones verges lie higher or lower than the road under the wheels, as beside real roads.
    unevenness: Range = (0.0, 0.07)
    speed: Range = (0.0, 14.0)  # m/s; standing still happens too
    left_hand_probability: float = 0.4  # Singapore drives on the left, Boston on the right
    building_density: Range = (0.45, 1.0)  # share of plots that are built
    building_height: Range = (4.0, 34.0)  # m
    vegetation: Range = (0.0, 1.0)  # trees per 12 m of kerb
    tree_height: Range = (3.5, 19.0)  # m of single trees: a crown's size must not tell its distance
    open_probability: float = 0.5  # the edge of town: few houses far back, lawns, woods, banks, car parks
    open_setback: Range = (4.0, 32.0)  # m between the sidewalk of an open street and its houses
    open_density: Range = (0.0, 0.45)  # share of plots that are built there
    woods: Range = (0.0, 1.0)  # share of an open street with a wood beside it
    wood_setback: Range = (2.0, 100.0)  # m between kerb and wood: the same trees must occur near and far
    wood_height: Range = (5.0, 28.0)  # m
    # Wide roads between lawns and forecourts, with woods and houses far back: of the LiDAR points of a real road in the
    # suburbs (docs/scorecard.md, DDAD) a fifth lie 40 to 80 m away, in the other towns a twelfth.
    wide_probability: float = 0.5
    skyline: tuple[int, int] = (0, 24)  # towers and blocks behind each street: large ones are not near ones
    rough_probability: float = 0.5  # leaves of any grain, ragged rims, worn lawns, small things beside the road
    grain: Range = (0.3, 3.0)  # factor of the size of textures, of each thing: see ``grain``
    furniture: Range = (0.3, 1.0)  # poles, signs, bins, benches, bollards, fences
    parked: Range = (0.0, 0.85)  # share of kerb places taken
    moving: tuple[int, int] = (2, 16)  # cars, buses and cyclists under way
    people: tuple[int, int] = (3, 40)  # on the sidewalks and crossings
    overpass_probability: float = 0.15  # a deck over the street
    overcast_probability: float = 0.4  # light without sharp shadows
    dusk_probability: float = 0.12  # dark, lamps lit
    wet_probability: float = 0.15  # mirror-like road
    haze: Range = (0.0, 0.006)  # 1/m; 0.004 is fog, in which one sees 1 km
    haze_skew: float = 3.0  # clear air is most common: the cube of a uniform draw, so that half see more than 5 km
    shadow_reach: float = 210.0  # m around the car; far trees and walls stand in shadows too
    rays_per_pixel: int = 1  # along each side; 2 averages four, as a camera's pixels do that are shrunk
    sun_elevation: Range = (0.25, 1.25)  # rad
    saturation: Range = (0.5, 1.2)  # of the palettes
    sensor_noise: Range = (0.002, 0.02)  # of full scale
    max_range: float = 200.0  # m of depth; what is farther counts as sky

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and not 0 <= value[0] <= value[1]:
                raise ConfigError(f"{field.name} must be a range (low, high) with 0 <= low <= high, got {value}")
            if field.name.endswith("_probability") and not 0 <= value <= 1:
                raise ConfigError(f"{field.name} must be between 0 and 1, got {value}")
        if self.haze_skew <= 0 or self.shadow_reach < 0 or self.rays_per_pixel < 1:
            raise ConfigError(
                "haze_skew must be above 0, shadow_reach at least 0 and rays_per_pixel at least 1, got "
                f"{self.haze_skew}, {self.shadow_reach}, {self.rays_per_pixel}"
            )
        if self.grain[0] <= 0:
            raise ConfigError(f"grain must be above 0, got {self.grain}")
        if self.max_range <= 0:
            raise ConfigError(f"max_range must be above 0 m, got {self.max_range}")

    def widened(self) -> TownSettings:
        """The same town where it is wide."""
        return replace(
            self,
            lanes=(1, 5),
            open_probability=1.0,
            open_setback=(10.0, 90.0),
            wood_setback=(15.0, 140.0),
            furniture=(0.0, 0.5),
            parked=(0.0, 0.2),
        )

    @staticmethod
    def held_out() -> TownSettings:
        """Another town, for validation: other widths, densities, light and colours.

        Its air and shadows are those that it has had from the beginning, so that figures can be compared.
        """
        return TownSettings(
            lane_width=(3.1, 3.5),
            lanes=(1, 2),
            sidewalk=(2.2, 4.0),
            setback=(0.5, 5.0),
            kerb=(0.1, 0.14),
            cross_spacing=(70.0, 110.0),
            turn_probability=0.4,
            bend=(2.0, 9.0),
            slope=(0.2, 1.2),
            unevenness=(0.0, 0.0),
            speed=(3.0, 11.0),
            building_density=(0.7, 0.95),
            building_height=(6.0, 24.0),
            vegetation=(0.2, 0.7),
            tree_height=(5.0, 14.0),
            open_probability=0.35,
            open_setback=(8.0, 24.0),
            open_density=(0.1, 0.35),
            woods=(0.3, 0.8),
            wood_setback=(6.0, 45.0),
            wood_height=(8.0, 22.0),
            wide_probability=0.0,
            skyline=(0, 0),
            rough_probability=0.0,
            grain=(1.0, 1.0),
            furniture=(0.5, 0.9),
            parked=(0.3, 0.7),
            moving=(5, 12),
            people=(8, 25),
            dusk_probability=0.0,
            haze=(0.0, 0.002),
            haze_skew=1.0,
            shadow_reach=0.0,
            sun_elevation=(0.5, 1.1),
            saturation=(0.6, 1.0),
        )
