"""How the parsers of outside data are fuzzed: how many cases, what counts as a finding, what is written down.

``FUZZ_CASES`` sets the number of cases of each parser (a few by default), ``FUZZ_OUT`` names a JSON
file to write the counts to:

    FUZZ_CASES=20000 FUZZ_OUT=docs/results/fuzz.json python -m pytest test/fuzz
"""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsmde_ros.errors import FsmdeError

CASES = int(os.environ.get("FUZZ_CASES", "100"))
SLOWEST_S = 10.0  # of CPU time for one case; the largest image that is accepted takes 1 s to decode
LONGEST = 5000  # characters of an error: what it quotes of the input must be cut
MEMORY_MIB = 1200  # more than that on top of what there was is a blow-up; an image of the largest size is 100 MiB


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with a few of the changes that find most: flips, extremes, cuts, insertions, repeats."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        if not out:
            return bytes(random.integers(0, 256, 8, dtype=np.uint8))
        at = int(random.integers(len(out)))
        kind = random.integers(7)
        if kind == 0:
            out[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            out[at] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == 2:
            size = int(random.choice([2, 4, 8]))
            out[at : at + size] = random.choice([b"\x00", b"\xff", b"\x7f", b"\x80"]) * size
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + int(random.integers(1, 9))]
        elif kind == 5:
            out[at:at] = bytes(random.integers(0, 256, int(random.integers(1, 9)), dtype=np.uint8))
        else:
            end = min(len(out), at + int(random.integers(1, 33)))
            out[at:at] = out[at:end]
    return bytes(out)


class Fuzzer:
    """Feeds cases to a parser: only a clean result or an error of the project's own is accepted."""

    def __init__(self) -> None:
        self.counts: dict[str, dict[str, float]] = {}
        self.findings: list[str] = []

    def run(
        self, name: str, parse: Callable[[Any], object], case: Callable[[np.random.Generator], Any], share: float = 1
    ) -> None:
        """Parse ``share`` of ``CASES`` cases, each from a seed of its own, which a finding names."""
        cases, refused, slowest = max(5, round(CASES * share)), 0, 0.0
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in range(cases):
            given = case(np.random.default_rng(seed))
            start = time.process_time()
            words = ""
            try:
                parse(given)
            except FsmdeError as error:
                refused, words = refused + 1, str(error) or "an error without a word" * 1000
            except Exception as error:
                self.findings.append(f"{name}, seed {seed}: {type(error).__name__}: {error}")
                self.write()
                pytest.fail(f"{self.findings[-1]}; case {str(given)[:300]}")
            assert len(words) < LONGEST, f"{name}, seed {seed}: an error of {len(words)} characters: {words[:200]}"
            taken = time.process_time() - start
            slowest = max(slowest, taken)
            assert taken < SLOWEST_S, f"{name}, seed {seed}: {taken:.1f} s"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < MEMORY_MIB, f"{name}: {grown:.0f} MiB more at the peak"
        self.counts[name] = {
            "cases": cases,
            "refused": refused,
            "accepted": cases - refused,
            "slowest_ms": round(1000 * slowest, 1),
            "peak_growth_mib": round(grown, 1),
        }
        self.write()

    def write(self) -> None:
        """Write the counts so far to ``FUZZ_OUT``, where it is set."""
        if not os.environ.get("FUZZ_OUT"):
            return
        content = {
            "command": f"FUZZ_CASES={CASES} FUZZ_OUT=docs/results/fuzz.json python -m pytest test/fuzz",
            "machine": f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}",
            "cases": sum(int(counts["cases"]) for counts in self.counts.values()),
            "findings": self.findings,
            "parsers": self.counts,
        }
        path = Path(os.environ["FUZZ_OUT"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


@pytest.fixture(scope="session")
def fuzzer() -> Fuzzer:
    """The fuzzer of this run."""
    return Fuzzer()


@pytest.fixture(scope="session")
def mutate() -> Callable[[bytes, np.random.Generator], bytes]:
    """``mutated``."""
    return mutated
