"""``chaos``: a bag in, the same bag with faults out, and a record of what was done."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fsmde_ros.chaos.bag_filter import read_messages, record, write_messages
from fsmde_ros.chaos.faults import KINDS, Fault, apply
from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.option_types import whole
from fsmde_ros.sources.bag_writer import check_target


def parse_fault(text: str) -> Fault:
    """A fault of the command line: ``KIND[,field=value...]``, such as ``drop,share=0.05,cameras=a+b,start=2,end=4``."""
    kind, *pairs = text.split(",")
    values: dict[str, float | tuple[str, ...]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in ("start", "end", "share", "amount", "cameras"):
            raise ConfigError(f"fault '{text}': expected start=, end=, share=, amount= or cameras=, got '{pair}'")
        try:
            values[name] = tuple(value.split("+")) if name == "cameras" else float(value)
        except ValueError as error:
            raise ConfigError(f"fault '{text}': {name} must be a number, got '{value}'") from error
    return Fault(kind, **values)  # type: ignore[arg-type]  # the names were checked above


def _check_record(path: Path, out: Path) -> None:
    """Raise ConfigError where the record could not be written, before the bag is, which takes long."""
    folder = path.absolute().parent
    if path.is_dir() or (folder != out.absolute() and not folder.is_dir()):
        raise ConfigError(
            f"--record {path}: expected a file in a folder that is there; make the folder, or choose another"
        )


def _help() -> str:
    lines = ["kinds of faults, and what amount means:"]
    lines += [
        f"  {name:12} {kind.what}" + (f" (amount: {kind.meaning}; {kind.amount:g})" if kind.high > kind.low else "")
        for name, kind in KINDS.items()
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 written, 2 cannot."""
    parser = argparse.ArgumentParser(
        prog="chaos",
        description="Put faults into a rosbag2 bag.",
        epilog=_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    parser.add_argument("out", type=Path, help="folder of the bag to write")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="KIND,FIELD=VALUE...", help="such as drop,share=0.05,start=2"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="the same seed gives the same faults (0)")
    parser.add_argument("--record", type=Path, help="what was done (OUT/chaos.json)")
    parser.add_argument("--overwrite", action="store_true", help="replace the bag that is there")
    options = parser.parse_args(argv)
    try:
        if not options.fault:
            raise ConfigError("no --fault given; --help lists the kinds")
        faults = [parse_fault(text) for text in options.fault]
        path = options.record or options.out / "chaos.json"
        _check_record(path, options.out)
        check_target(options.out.absolute(), options.overwrite)
        before = read_messages(options.bag)
        after, events = apply(before, faults, options.seed)
        written = write_messages(options.bag, options.out, after, options.overwrite)
        path.write_text(json.dumps(record(faults, options.seed, events, before, after), indent=1) + "\n")
    except FsmdeError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # of the record; the bag has been written
        print(f"chaos: {error.filename or path}: cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    if written.left_out:
        print(f"left out, as neither the bag nor ROS defines the type: {', '.join(written.left_out)}")
    count = written.messages
    print(f"{len(events)} faults in {len(before)} messages, {count} written to {options.out}; record in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
