"""Stamps of headers, without ROS."""

from __future__ import annotations

NS = 1_000_000_000
LAST_SECOND = 2**31 - 1 - 60  # seconds of a stamp are an int32


def stamp_problem(seconds: int, nanoseconds: int) -> str:
    """Why a stamp cannot be that of an image, a scan or a pose; empty where it can. 0 is of a header nobody filled.

    A sweep's own stamp is worked out from those of its images, and must fit a message again.
    """
    if seconds == nanoseconds == 0:
        return "bad stamp: 0; the driver does not fill header.stamp, correct or replace it"
    if 0 <= seconds <= LAST_SECOND and nanoseconds < NS:
        return ""
    return (
        f"bad stamp: {seconds} s and {nanoseconds} ns, expected 0 to {LAST_SECOND} s and less than {NS} ns; "
        "check the clock of its driver"
    )
