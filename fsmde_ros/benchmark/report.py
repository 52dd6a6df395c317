"""The report as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def to_markdown(report: Mapping[str, Any]) -> str:
    """The tables of a report of ``python -m fsmde_ros.benchmark``, and where they were measured."""
    machine, ceiling = report["machine"], report["ceiling"]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    gpus = f"; {', '.join(machine['gpus'])}" if machine["gpus"] else ""
    rates = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in ceiling["gflop_per_s"].items())
    parts = [
        f"Machine: {machine['cores']} cores of {machine['processor']}, {machine['memory_gb']:.0f} GB{gpus}. "
        f"Its ceiling, measured in the same run: {rates} (a large matrix product), "
        f"{ceiling['gigabytes_per_s']:.0f} GB/s (a copy).",
        f"Versions: {versions}.",
        f"Command: `{report['command']}`.",
    ]
    for title, key, columns in (
        ("Network", "networks", _NETWORKS),
        ("Stages", "stages", _STAGES),
        ("Views and sizes", "scaling", _SCALING),
        ("Batches", "batches", _BATCHES),
        ("The whole node over DDS", "node", _NODE),
    ):
        if report.get(key):
            parts.append(f"## {title}\n{_NOTES[key]}\n\n{table(report[key], columns)}")
    if report.get("left_out"):
        lines = "\n".join(f"- {name}: {reason}" for name, reason in report["left_out"].items())
        parts.append(f"## Not measured here\n{lines}")
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A Markdown table, a line for each row."""
    lines = [" | ".join(title for title, _ in columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(text(row) for _, text in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _number(key: str, digits: int = 1) -> Callable[[Row], str]:
    return lambda row: "" if row.get(key) is None else f"{row[key]:.{digits}f}"


def _share(key: str, digits: int = 0) -> Callable[[Row], str]:
    return lambda row: "" if row.get(key) is None else f"{100 * row[key]:.{digits}f} %"


def _size(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _spread(row: Row) -> str:
    return f"{row['low_ms']:.1f} to {row['high_ms']:.1f}"


_TIME: list[Column] = [("ms", _number("median_ms")), ("10 to 90 %", _spread)]
_NETWORKS: list[Column] = [
    ("network", lambda row: str(row["name"])),
    ("input", lambda row: _size(row["size"]) if row.get("size") else ""),
    *_TIME,
    ("times faster", _number("times_faster")),
    ("depth change", _share("depth_change", 2)),
    ("parameters, M", lambda row: f"{row['parameters'] / 1e6:.1f}"),
    ("GFLOP", _number("gflop")),
    ("GB moved", _number("gigabytes", 2)),
    ("GFLOP/s", _number("gflop_per_s", 0)),
    ("GPU memory, MB", _number("gpu_memory_mb", 0)),
    ("of the float32 ceiling", _share("share_of_float32_ceiling")),
    ("of that of its precision", _share("share_of_own_ceiling")),
]
_STAGES: list[Column] = [
    ("network size", lambda row: _size(row["size"])),
    ("stage", lambda row: str(row["stage"])),
    *_TIME,
    ("of the network", _share("share_of_network")),
]
_SCALING: list[Column] = [
    ("views", lambda row: str(row["views"])),
    ("size", lambda row: f"{row['height']}x{row['width']}"),
    *_TIME,
]
_BATCHES: list[Column] = [
    ("student", lambda row: str(row["name"])),
    ("input", lambda row: _size(row["size"]) if row.get("size") else ""),
    ("sweeps in a batch", lambda row: str(row["sweeps"])),
    *_TIME,
    ("sweeps/s", _number("sweeps_per_s")),
]
_NODE: list[Column] = [
    ("student", lambda row: f"{row['name']}, {row['backend']}"),
    ("Hz in", _number("rate_hz")),
    ("sweeps", lambda row: str(row["sent"])),
    ("lost", _share("lost", 1)),
    ("latency p50, ms", _number("latency_p50_ms", 0)),
    ("p95", _number("latency_p95_ms", 0)),
    ("p99", _number("latency_p99_ms", 0)),
    ("decode, ms", _number("decode_ms")),
    ("network, ms", _number("network_ms")),
    ("stereo, ms", _number("stereo_ms")),
    ("publish, ms", _number("publish_ms")),
    ("CPU of the node, cores", _number("cpu_cores", 2)),
    ("memory, MB", _number("memory_mb", 0)),
]
_NOTES = {
    "networks": "One sweep, from uint8 images in memory to float32 depth in memory. *Depth change*: median against "
    "eager float32, the price of a lower precision. A multiply-add counts two operations; GB: what goes in and out "
    "of the layers in float32. Each row has a process of its own; they take turns, so that a disturbance hits all "
    "alike. A student that cannot take the size that was asked for has the next larger one that it can.",
    "stages": "What surrounds the network, in one process. Motion stereo needs poses of the vehicle, and is in no row "
    "of *all*. A virtual machine may keep the threads that decode on one core while the others sleep; the last row has "
    "one for each.",
    "scaling": "The same backend by number of views and by size.",
    "batches": "Several sweeps as one batch, from inputs that lie on the device; eager float32 on a CPU, bfloat16 in a "
    "CUDA graph. Up to the largest batch for which there was memory.",
    "node": "JPEG of 1600x900 on six topics in, depth and cloud out; player and recorder run beside the node on the "
    "same cores, over UDP on loopback with reliable images. Lost: sweeps of which not all views came out. Latency: "
    "arrival of the first image to everything published. Stage times are medians; *stereo* compares each view with two "
    "earlier ones, as there is an odometry.",
}
