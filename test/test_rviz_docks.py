"""The bytes against a reader of Qt's format that was written for this test, from the other end."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from fsmde_ros.rviz_docks import dock_state

# What QMainWindow::saveState of Qt 5.15.19 gave for a window with one tool bar "Tools" and no dock widgets:
# its end is the same for every window with that tool bar alone.
QT_END = bytes.fromhex(
    "00000004000000040000000800000008"
    + "fc0000000100000002000000010000000a0054006f006f006c00730100000000ffffffff0000000000000000"
)


@dataclass
class Reader:
    data: bytes
    at: int = 0

    def take(self, pattern: str) -> tuple[int, ...]:
        values = struct.unpack_from(f">{pattern}", self.data, self.at)
        self.at += struct.calcsize(f">{pattern}")
        return values

    def text(self) -> str:
        (length,) = self.take("I")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-16-be")

    def sequence(self) -> tuple[int, list[tuple[object, int, int]]]:
        """Orientation, and (name or sequence, position, size) of the items."""
        marker, orientation, count = self.take("BBi")
        assert marker == 0xFC
        items: list[tuple[object, int, int]] = []
        for _ in range(count):
            (kind,) = self.take("B")
            if kind == 0xFB:
                name = self.text()
                assert self.take("B") == (1,), "visible and not floating"
                items.append((name, *self.take("4i")[:2]))
            else:
                assert kind == 0xFC
                position, size, *_ = self.take("4i")
                items.append((self.sequence(), position, size))
        return orientation, items


def test_columns_of_panels_fill_the_bottom_from_edge_to_edge() -> None:
    data = dock_state([("Image a", "Depth a"), ("Image bé", "Depth bé")], (1000, 900))
    reader = Reader(data)
    assert reader.take("2iBi") == (0xFF, 0, 0xFD, 2)
    assert reader.take("i") == (0,), "left"
    tree_width, upper = reader.take("2i")
    assert reader.sequence() == (2, [("Displays", 0, upper)])
    assert reader.take("i") == (3,), "bottom"
    width, lower = reader.take("2i")
    assert (width, upper + lower) == (1000, 900)
    orientation, [(strip, at, images), (time, time_at, time_height)] = reader.sequence()
    assert (orientation, time, at, time_at, images + time_height) == (2, "Time", 0, images, lower)
    each = images // 2
    assert strip == (
        1,
        [
            ((2, [("Image a", 0, each), ("Depth a", each, each)]), 0, 500),
            ((2, [("Image bé", 0, each), ("Depth bé", each, each)]), 500, 500),
        ],
    )
    assert reader.take("2i") == (1000 - tree_width, upper), "the 3D view has the rest"
    assert data[reader.at :] == QT_END


@pytest.mark.parametrize("cameras", [1, 2, 3])
def test_few_cameras_leave_room_for_the_cloud(cameras: int) -> None:
    """At 16:9 one image would be as high as 1680 pixels are wide: higher than the window."""
    reader = Reader(dock_state([(f"Image {i}", f"Depth {i}") for i in range(cameras)], (1680, 1050)))
    reader.take("2iBi")
    _, _, upper = reader.take("3i")
    assert upper >= 1050 // 4
    assert reader.sequence() == (2, [("Displays", 0, upper)])
    _, _, lower = reader.take("3i")
    assert upper + lower == 1050
    strip, _, images = reader.sequence()[1][0]
    assert images > 200 * 2
    assert isinstance(strip, tuple)
    for (_, column), *_ in strip[1]:
        assert sum(height for _, _, height in column) <= images


def test_no_cameras_leave_the_tree_and_the_time() -> None:
    reader = Reader(dock_state([], (800, 600)))
    reader.take("2iBi")
    reader.take("3i")
    assert [item[0] for item in reader.sequence()[1]] == ["Displays"]
    reader.take("3i")
    assert [item[0] for item in reader.sequence()[1]] == ["Time"]
