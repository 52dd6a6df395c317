"""Where the panels of RViz stand: the bytes that Qt's ``QMainWindow::restoreState`` reads.

RViz keeps them, in hex, as "QMainWindow State"; without them it piles all image panels up in one
column. The format is that of Qt 5 and 6 (version marker 0xff, dock widgets 0xfd, tool bars 0xfc), as
their sources write it; numbers are big-endian, sizes in pixels. Qt skips names it does not know.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

HORIZONTAL, VERTICAL = 1, 2  # Qt::Orientation
LEFT, TOP, BOTTOM = 0, 2, 3  # QInternal::DockPosition
WIDGET, SEQUENCE, DOCKS, TOOL_BARS, VERSION = 0xFB, 0xFC, 0xFD, 0xFC, 0xFF
VISIBLE = 1
SMALLEST, LARGEST = 20, 0xFFFFFF  # pixels; the larger is Qt's QWIDGETSIZE_MAX
TREE_WIDTH, TIME_HEIGHT, TITLE = 300, 60, 26
UPPER = 4  # the tree and the 3D view keep at least one part in so many of the window's height
CORNERS = (4, 4, 8, 8)  # top and bottom area (Qt::DockWidgetArea) go from edge to edge

Item = tuple[int, bytes]
"""Extent in pixels along its sequence, and the bytes that say what it is."""


def dock_state(columns: Sequence[Sequence[str]], window: tuple[int, int]) -> bytes:
    """The tree of displays on the left; below, the image panels in columns, and the time.

    Images are as high as is 16:9 in their column, or lower where that would leave too little above them.

    Args:
        columns: names of the panels of each column, from above; columns from left to right.
        window: (width, height) of the window.
    """
    width, height = window
    rows = max((len(column) for column in columns), default=0)
    each = width // max(len(columns), 1)
    images = min(rows * (each * 9 // 16 + TITLE), height - height // UPPER - TIME_HEIGHT)
    upper = height - images - TIME_HEIGHT
    strip = [(each, _sequence(VERTICAL, [(images // rows, _panel(name)) for name in column])) for column in columns]
    below: list[Item] = [(images, _sequence(HORIZONTAL, strip)), (TIME_HEIGHT, _panel("Time"))]
    areas = _area(LEFT, (TREE_WIDTH, upper), [(upper, _panel("Displays"))])
    areas += _area(BOTTOM, (width, images + TIME_HEIGHT), below if columns else below[1:])
    docks = struct.pack(">Bi", DOCKS, 2) + areas + struct.pack(">6i", width - TREE_WIDTH, upper, *CORNERS)
    bars = struct.pack(">B3i", TOOL_BARS, 1, TOP, 1) + _text("Tools") + struct.pack(">B4i", VISIBLE, 0, -1, 0, 0)
    return struct.pack(">2i", VERSION, 0) + docks + bars


def _area(position: int, size: tuple[int, int], items: Sequence[Item]) -> bytes:
    return struct.pack(">3i", position, *size) + _sequence(VERTICAL, items)


def _sequence(orientation: int, items: Sequence[Item]) -> bytes:
    """Items one after another. After its kind and name, each has position, size, least and largest size."""
    content, at = b"", 0
    for extent, what in items:
        extents = struct.pack(">4i", at, extent, SMALLEST, LARGEST)
        # A nested sequence begins with its own marker, which comes after the extents.
        content += bytes([SEQUENCE]) + extents + what if what[0] == SEQUENCE else what + extents
        at += extent
    return struct.pack(">2Bi", SEQUENCE, orientation, len(items)) + content


def _panel(name: str) -> bytes:
    return bytes([WIDGET]) + _text(name) + bytes([VISIBLE])


def _text(text: str) -> bytes:
    """A QString: its length in bytes, then UTF-16."""
    encoded = text.encode("utf-16-be")
    return struct.pack(">i", len(encoded)) + encoded
