from __future__ import annotations

import numpy as np
import torch

from fsmde_ros.rig import Camera
from training.town.camera import _view_tiles
from training.town.primitives import Kind, Material, row
from training.town.raycast import GROUND, SKY, cast
from training.town.tiles import Tiles, tiles_around
from training.town.world import World

GREY = (0.5, 0.5, 0.5)


def test_culling_loses_nothing(town: World, forward_camera: Camera) -> None:
    camera = forward_camera.resized((96, 140))
    origins, directions, tiles = _view_tiles(town, camera, town.vehicle_to_map(1.0))
    culled = cast(town, 1.0, origins, directions, tiles)
    some = torch.arange(0, len(origins), 7)
    count = len(some)
    everything = Tiles(torch.zeros(count, 4, 3), torch.ones(count, 4), torch.zeros(count, 3))
    brute = cast(town, 1.0, origins[some], directions[some], everything)
    assert (culled.primitive[some] >= 0).any()
    torch.testing.assert_close(culled.distance[some], brute.distance, rtol=1e-5, atol=1e-4)
    assert (culled.primitive[some] == brute.primitive).float().mean() > 0.999  # faces that coincide may swap


def test_hits_say_what_where_and_which_way(stage, forward_camera: Camera) -> None:  # type: ignore[no-untyped-def]
    world = stage(
        row(Kind.BOX, (12.0, 0.0, 1.5), (1.0, 2.0, 1.0), Material.PLAIN, GREY, yaw=0.0),
        row(Kind.CONE, (10.0, -6.0, 1.0), (0.5, 0.5, 1.0), Material.PLAIN, GREY),
    )
    origins = torch.tensor([[0.0, 0.0, 1.5]])
    directions = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, -0.5], [1.0, 0.0, 0.5], [1.0, -0.6, -0.05]]])
    corners = torch.tensor([[[1.0, 1, 1], [1, -1, 1], [1, -1, -1], [1, 1, -1]]])
    hits = cast(world, 0.0, origins, directions, tiles_around(origins, corners, torch.tensor([[1.0, 0, 0]])))
    assert hits.primitive.tolist() == [[0, GROUND, SKY, 1]]
    torch.testing.assert_close(hits.distance[0, :3], torch.tensor([11.0, 3.0, torch.inf]))
    torch.testing.assert_close(hits.normal[0, 0], torch.tensor([-1.0, 0, 0]))
    torch.testing.assert_close(hits.normal[0, 1], torch.tensor([0.0, 0, 1]))
    torch.testing.assert_close(hits.local[0, 0], torch.tensor([-1.0, 0, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(hits.point[0, 1], torch.tensor([3.0, 0, 0]), atol=1e-5, rtol=0)
    toward = hits.normal[0, 3] @ directions[0, 3]
    assert toward < 0
    assert abs(float(hits.normal[0, 3, 2])) < 1e-5


def test_every_tile_has_its_own_time(town: World) -> None:
    """A moving thing is met where it is at the time of the tile."""
    at = {t: town.primitives_at(t) for t in (1.0, 1.04)}
    moving = (at[1.0].velocity.norm(dim=1) > 1.0).nonzero().squeeze(1)
    assert len(moving)
    i = int(moving[0])
    torch.testing.assert_close(at[1.0].center[i] + 0.04 * at[1.0].velocity[i], at[1.04].center[i], atol=4e-3, rtol=0)
    for order in ((1.0, 1.04), (1.04, 1.0)):
        times = torch.tensor(order, dtype=torch.float64)
        origins = torch.stack([at[t].center[i] + torch.tensor([0.0, 0.0, 9.0]) for t in order])
        directions = torch.tensor([0.0, 0.0, -1.0]).expand(2, 1, 3)
        corners = torch.tensor([[0.01, 0.01, -1.0], [-0.01, 0.01, -1], [-0.01, -0.01, -1], [0.01, -0.01, -1]])
        tiles = tiles_around(origins, corners.expand(2, 4, 3))
        both = cast(town, times, origins, directions, tiles)
        for k, t in enumerate(order):
            one = Tiles(tiles.normals[k : k + 1], tiles.offsets[k : k + 1], tiles.axis[k : k + 1])
            alone = cast(town, t, origins[k : k + 1], directions[k : k + 1], one)
            np.testing.assert_allclose(both.distance[k].numpy(), alone.distance[0].numpy(), atol=3e-3)
