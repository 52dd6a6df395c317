"""Learns how long after one another the cameras of a rig fire, from their stamps alone.

The offset of a camera to the anchor is the difference of stamps that fits most often; where
several fit alike, as with every regular period, the smallest one. Learning by how often a
difference fits, and not by a fixed period, also holds for nuScenes, whose cameras leave 50, 100
or 150 ms between frames of a nominal 12 Hz. All times are int nanoseconds.

Cameras without a common trigger drift: every camera keeps its own period, and after a while lies a
whole period from where it began. Once a drift has been seen, offsets are folded by whole periods so
that the cameras of a sweep lie as close together as they can. Offsets that stay are left as learned.

Offsets are measured against the anchor while it sends, afterwards against a camera that does: else
those that drift would be lost with it. The anchor keeps its place among the others all the while.
Where cameras have different rates, they are measured against one of the rate that most have.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, insort

HISTORY = 16  # stamps remembered of each camera
LATEST = 4  # stamps of a camera that are compared with those of another
SETTLED = 8  # stamps of a camera after which its offset is kept while it still fits
ALIKE = 0.75  # a difference that fits this much as often as the best one is as good
SMOOTHING = 32  # stamps of a camera over which its offset is averaged, to tell drift from jitter
DRIFT = 0.07  # share of a period; an offset that has moved this far is not constant
FEW = 4  # stamps of a camera that do not tell its rate
UNLIKE = 1.5  # median steps of a camera: a longer step has lost a frame, another camera has another rate
SLACK = 0.05  # share of a period that must be won by a fold, so that jitter does not fold to and fro


class StampOffsets:
    """The offsets of the cameras to the anchor, learned message by message.

    Attributes:
        anchor: the camera whose moment is that of a sweep; empty before the first stamp.
        period_ns: nearly the shortest time between two stamps of a camera; None before one has
            two. One in eight may be shorter, so that a stray stamp does not narrow the window.
        window_ns: how far aligned stamps of one sweep lie apart at most.
    """

    def __init__(self, cameras: tuple[str, ...], anchor: str, window_ns: int) -> None:
        self._configured_anchor = anchor
        self._window = window_ns
        self._stamps: dict[str, list[int]] = {name: [] for name in cameras}
        self._base = ""  # the camera that the offsets are measured against: mostly the anchor
        self._offsets: dict[str, int] = {}
        self._learned: dict[str, int] = {}  # the offsets before they were followed
        self._smooth: dict[str, float] = {}  # running means of the offsets
        self._drifts = False
        self._usual = 0  # median time between two stamps of a camera: unlike period_ns, jitter leaves it unbiased
        self.anchor = ""
        self.period_ns: int | None = None
        self.window_ns = window_ns

    def learn(self, camera: str, stamp_ns: int) -> None:
        """Take a stamp of a camera, if it is new; this may change the anchor and all aligned stamps."""
        stamps = self._stamps[camera]
        if stamp_ns in stamps:  # a driver that sends each image twice has no period of 0
            return
        insort(stamps, stamp_ns)
        del stamps[:-HISTORY]
        steps = sorted(b - a for known in self._stamps.values() for a, b in itertools.pairwise(known))
        if steps:
            self.period_ns = steps[len(steps) // 8]
            self.window_ns = min(self._window, round(0.45 * self.period_ns))
            self._usual = steps[len(steps) // 2]
        seen = [name for name, known in self._stamps.items() if known]
        alive = [name for name in seen if self._stamps[name][-1] >= stamps[0]]
        if all(len(self._stamps[name]) >= SETTLED for name in alive):  # a camera that fell silent before never will
            if self._base not in alive:
                self._measure_against(min(alive, key=lambda name: abs(self._offsets[name])))
            self._update(camera, alive)
        else:
            self._choose_anchor(seen)

    def aligned(self, camera: str, stamp_ns: int) -> int:
        """The stamp the anchor would have had in the sweep of this message."""
        return stamp_ns - self._offsets.get(camera, 0) + self._offsets.get(self.anchor, 0)

    def sends_nothing_at(self, camera: str, aligned_ns: int) -> bool:
        """Whether a camera that is slower than others has no frame at an aligned stamp, as far as its steps tell."""
        stamps = self._stamps[camera]
        if len(stamps) < SETTLED:
            return False
        moment = aligned_ns - self.aligned(camera, 0)
        after = bisect_left(stamps, moment)
        if after == 0 or moment - stamps[after - 1] <= self.window_ns:
            return False
        if after < len(stamps):
            has_lost = stamps[after] - stamps[after - 1] > UNLIKE * _median_step(stamps)
            return not has_lost and stamps[after] - moment > self.window_ns
        steps = _steps(stamps)
        return stamps[-1] + steps[len(steps) // 8] - moment > self.window_ns

    @property
    def gap_ns(self) -> int:
        """How far two aligned stamps of one sweep that follow one another lie apart at most.

        As long as the offsets are unknown a gap separates better than the span: nuScenes has
        8.5 ms within a sweep and 40.7 ms between two.
        """
        return round(0.6 * self._window) if self.period_ns is None else self.window_ns

    def _choose_anchor(self, seen: list[str]) -> None:
        """Take the camera with the smallest spread of offsets, which lies amid the others."""
        common = self._of_common_rate(self._sending(seen))
        candidates = [self._configured_anchor] if self._configured_anchor in common else common
        offsets = {anchor: {name: self._offset(anchor, name) for name in seen} for anchor in candidates}
        spread = {a: max(o.values()) - min(o.values()) for a, o in offsets.items()}
        best = min(candidates, key=lambda anchor: spread[anchor])
        if self._base in spread and spread[self._base] <= spread[best] * 1.05:
            best = self._base
        self.anchor = self._configured_anchor if self._configured_anchor in seen else best
        self._base, self._offsets = best, offsets[best]
        self._learned = dict(self._offsets)
        self._smooth = {name: float(offset) for name, offset in self._offsets.items()}

    def _sending(self, seen: list[str]) -> list[str]:
        """Those that have not fallen silent: the latest stamps of others lie near none of a silent one."""
        newest = max(self._stamps[name][-1] for name in seen)
        steps = {name: max(self._usual, _median_step(self._stamps[name])) for name in seen}
        return [name for name in seen if newest - self._stamps[name][-1] <= LATEST * steps[name] or not self._usual]

    def _of_common_rate(self, seen: list[str]) -> list[str]:
        """The cameras that step like most of them; of two halves the slower one.

        A camera of another rate finds a frame of these near by. Slow ones, each measured against the nearest frame of
        a fast one, could end in different sweeps.
        """
        known = {name: self._stamps[name] for name in seen}
        steps = {name: _median_step(stamps) if len(stamps) > FEW else 0 for name, stamps in known.items()}

        def alike(a: str, b: str) -> bool:
            shorter, longer = sorted((steps[a], steps[b]))
            return longer <= UNLIKE * shorter or shorter == 0  # not known: may be like any

        kinds = [[b for b in seen if alike(a, b)] for a in sorted(seen, key=lambda name: -steps[name])]
        return max(kinds, key=len)

    def _measure_against(self, base: str) -> None:
        """Keep all offsets as they lie to each other, and follow them from ``base`` from now on."""
        self._offsets, self._learned = (
            {name: offset - known[base] for name, offset in known.items()} for known in (self._offsets, self._learned)
        )
        self._smooth = {name: offset - self._smooth[base] for name, offset in self._smooth.items()}
        self._base = base

    def _update(self, camera: str, alive: list[str]) -> None:
        """Follow the slow change of an offset; learn it anew where it has ceased to fit."""
        if camera == self._base:
            return
        current = self._offsets[camera]
        matches, possible = self._matches(self._base, camera, current), self._possible(self._base, camera, current)
        if not possible:
            return  # the first stamp after an outage, before the base has its own of that sweep: nothing is known yet
        if 4 * len(matches) < possible:
            new = self._offset(self._base, camera, default=current)
            self._offsets[camera], self._learned[camera], self._smooth[camera] = new, new, float(new)
        else:
            self._offsets[camera] = sorted(matches)[len(matches) // 2]
            self._smooth[camera] += (self._offsets[camera] - self._smooth[camera]) / SMOOTHING
            moved = abs(self._smooth[camera] - self._learned[camera])
            self._drifts = self._drifts or moved > DRIFT * self._usual
        if self._drifts:
            self._fold(alive)

    def _fold(self, alive: list[str]) -> None:
        """Move offsets by whole periods so that the widest gap in the period parts the sweeps.

        Of n cameras at any phases the first and the last then lie at most 1 - 1/n periods apart. Only of those that
        are ``alive``: where the others are by now is not known.
        """
        period = self._usual
        if period == 0:
            return
        smooth = {name: self._smooth[name] for name in alive}
        phases = sorted(offset % period for offset in smooth.values())
        widest, first = max((b - a, b) for a, b in itertools.pairwise([*phases, phases[0] + period]))
        span = max(smooth.values()) - min(smooth.values())
        if span <= period - widest + SLACK * period:
            return
        # how many periods each camera moves, counted from the sweep that begins after the gap
        turns = {name: -math.floor((offset - first) / period + 1e-6) for name, offset in smooth.items()}
        shifts = {name: (turn - turns[self._base]) * period for name, turn in turns.items()}  # the base stays at 0
        for name, shift in shifts.items():  # not where frames do not come a period apart
            offset = self._offsets[name]
            found, wanted = (len(self._matches(self._base, name, o)) for o in (offset + shift, offset))
            if found < ALIKE * wanted:
                return
        for name, shift in shifts.items():
            self._offsets[name] += shift
            self._learned[name] += shift
            self._smooth[name] += shift

    def _offset(self, anchor: str, camera: str, default: int = 0) -> int:
        if anchor == camera:
            return 0
        reach = max(self._window, self.period_ns or 0)
        latest = self._stamps[camera][-LATEST:]
        differences = sorted({s - a for s in latest for a in self._stamps[anchor] if abs(s - a) <= reach}, key=abs)
        found = [(self._matches(anchor, camera, d), self._possible(anchor, camera, d)) for d in differences]
        if not found:
            return default
        most = max(len(matches) for matches, _ in found)
        # one success and one failure are added (Laplace): 3 of 3 is hardly better than 3 of 4
        fits = [
            ((len(matches) + 1) / (possible + 2), matches) for matches, possible in found if 2 * len(matches) >= most
        ]
        enough = ALIKE * max(share for share, _ in fits)
        best = next(matches for share, matches in fits if share >= enough)
        return sorted(best)[len(best) // 2]

    def _possible(self, anchor: str, camera: str, offset: int) -> int:
        """How many of each have their moment within the known time of the other; of the slower one, where one is."""
        anchors, tolerance = self._stamps[anchor], self.window_ns // 2
        moments = [stamp - offset for stamp in self._stamps[camera]]
        return min(
            sum(others[0] - tolerance <= moment <= others[-1] + tolerance for moment in own)
            for own, others in ((moments, anchors), (anchors, moments))
        )

    def _matches(self, anchor: str, camera: str, offset: int) -> list[int]:
        """The differences of all pairs of stamps that lie about ``offset`` apart."""
        anchors, tolerance = self._stamps[anchor], self.window_ns // 2
        found = []
        for stamp in self._stamps[camera]:
            moment = stamp - offset
            at = bisect_left(anchors, moment)
            if at == len(anchors) or (at > 0 and moment - anchors[at - 1] < anchors[at] - moment):
                at -= 1
            if at >= 0 and abs(moment - anchors[at]) <= tolerance:
                found.append(stamp - anchors[at])
        return found


def _steps(stamps: list[int]) -> list[int]:
    """The times between stamps that follow one another, the shortest first."""
    return sorted(b - a for a, b in itertools.pairwise(stamps))


def _median_step(stamps: list[int]) -> int:
    """0 where there are not two."""
    steps = _steps(stamps)
    return steps[len(steps) // 2] if steps else 0
