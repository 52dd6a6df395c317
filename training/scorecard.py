"""The score card of a checkpoint: how good it is on real drives, and on the town it was not trained in.

    python -m training.scorecard --checkpoint fsmde_ros/models/small.safetensors \\
        --nuscenes PATH --ddad PATH --town

Writes docs/results/scorecard.json and docs/scorecard.md, pictures of the town (nothing of a real drive goes
into the repository) and a whole report of each drive below out/scorecard. Real frames are for measuring only:
each run that scores some is entered in docs/results/real_looks.json first, before a number is seen.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint, load_checkpoint
from fsmde_ros.errors import ConfigError, FsmdeError
from training.data_source import open_data
from training.evaluate import Evaluation, evaluate, write_report
from training.evaluation.confidence import COVERAGE
from training.evaluation.page import COLUMNS, format_number
from training.evaluation.pictures import draw_sweep
from training.evaluation.report import table
from training.writable import make_folder

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT_SEED = "7"  # training draws its drives from seed 1,000,000 on
# of a town: two sweeps a second are scored, with those between for motion stereo
HELD_OUT_SWEEPS = ",rate=8,every=4"
PICTURES = Path("images") / "scorecard"
PICTURE_WIDTH = 640  # pixels
REAL = ("nuscenes", "ddad")
KEPT = ("verdict", "made", "sweeps", "images", "missing_views", "skipped_sweeps", "range_m", "interval_of", "rows")
KEPT_TOO = ("view_disagreement", "sigma", "sweeps_without_lidar", "images_without_pose", "motion_stereo")


def make_scorecard(checkpoint: Path, drives: Mapping[str, str], docs: Path, out: Path, device: str = "auto") -> None:
    """Score ``checkpoint`` on each drive and write the card.

    Figures that the card has of the same weights on other drives stay in it, those of other weights under the
    same name go.

    Args:
        checkpoint: ``.safetensors`` file.
        drives: names for ``open_data``, by kind: "nuscenes", "ddad", "town".
        docs: folder that gets results/scorecard.json, results/real_looks.json, scorecard.md and
            images/scorecard/.
        out: folder that gets a whole report of each drive.
        device: auto, cpu, cuda or cuda:N.

    Raises FsmdeError for a drive or checkpoint that cannot be used, or a card that cannot be read or written.
    """
    _, card = load_checkpoint(checkpoint)
    opened = {kind: open_data(name) for kind, name in drives.items()}
    cards = _read(docs / "results" / "scorecard.json", {"format": 1, "checkpoints": {}})
    for option, folder in (
        *(("--output", out / kind) for kind in opened),
        ("--docs", docs / "results"),
        ("--docs", docs / PICTURES),
    ):
        make_folder(option, folder)  # before a look at real frames, of which nothing would be kept
    known = drives_of(cards["checkpoints"], card.name, card.weights_sha256)
    for kind, data in opened.items():
        if kind in REAL:
            log_look(docs / "results" / "real_looks.json", kind, f"{card.name}, weights {card.weights_sha256[:12]}")
        evaluation = evaluate(checkpoint, data, device, mirror=True, motion_stereo=True)
        print(f"{kind}:\n{table(evaluation.report)}\n", flush=True)
        write_report(evaluation, out / kind)
        known[kind] = {name: evaluation.report[name] for name in (*KEPT, *KEPT_TOO)}
        if kind not in REAL:
            known[kind]["pictures"] = _write_pictures(evaluation, docs, card.name)
        # after each drive, so that a look is never without its figures
        _write(docs / "results" / "scorecard.json", json.dumps(cards, indent=1, allow_nan=False) + "\n")
    looks = _read(docs / "results" / "real_looks.json", [])
    _write(docs / "scorecard.md", render_scorecard(cards, looks))


def drives_of(checkpoints: dict[str, Any], name: str, weights_sha256: str) -> dict[str, Any]:
    """The drives that the card has of a checkpoint, to be added to; none where it has those of other weights."""
    if checkpoints.get(name, {}).get("weights_sha256") != weights_sha256:
        checkpoints[name] = {"weights_sha256": weights_sha256, "drives": {}}
    drives: dict[str, Any] = checkpoints[name]["drives"]
    return drives


def log_look(path: Path, data: str, student: str) -> None:
    """Enter into the log that real frames are about to be scored."""
    looks = _read(path, [])
    date = datetime.now(timezone.utc).date().isoformat()
    looks.append({"date": date, "data": data, "student": student, "what": "scored by python -m training.scorecard"})
    _write(path, json.dumps(looks, indent=2) + "\n")


def render_scorecard(cards: Mapping[str, Any], looks: Sequence[Mapping[str, str]]) -> str:
    """The card as Markdown, from scorecard.json and real_looks.json."""
    environment = Environment(  # Markdown, not HTML: nothing to escape
        loader=FileSystemLoader(Path(__file__).parent / "evaluation"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = format_number
    drives = [drive for card in cards["checkpoints"].values() for drive in card["drives"].values()]
    return environment.get_template("scorecard.md.j2").render(
        cards=cards,
        looks=looks,
        columns=COLUMNS,
        coverage=COVERAGE,
        rows={row for drive in drives for row in drive["rows"]},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a user's mistake is told without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m training.scorecard", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=find_checkpoint, default=default_checkpoint(), help="(small)")
    parser.add_argument("--nuscenes", help="root of nuScenes, options may follow (see training/data_source.py)")
    parser.add_argument("--ddad", help="root of DDAD, likewise")
    parser.add_argument("--town", nargs="?", const=HELD_OUT_SEED, help="held-out town (seed 7); of a seed, 20 sweeps")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder that gets the card")
    parser.add_argument("--output", type=Path, default=Path("out/scorecard"), help="folder for whole reports")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)
    places = {"nuscenes": given.nuscenes, "ddad": given.ddad, "town": given.town}
    drives = {kind: f"{kind}:{place}" for kind, place in places.items() if place is not None}
    if given.town is not None and given.town.isdecimal():
        drives["town"] += HELD_OUT_SWEEPS
    try:
        if not drives:
            raise ConfigError("nothing to score: give --nuscenes PATH, --ddad PATH or --town")
        make_scorecard(given.checkpoint, drives, given.docs, given.output, given.device)
    except FsmdeError as error:
        print(f"scorecard: {error}", file=sys.stderr)
        return 1
    print(f"card: {given.docs / 'scorecard.md'}; whole reports with pictures: {given.output}")
    return 0


def _write_pictures(evaluation: Evaluation, docs: Path, name: str) -> list[dict[str, Any]]:
    """PNG files of the chosen sweeps below ``docs``, instead of those of an earlier run; the card's list of them."""
    for old in (docs / PICTURES).glob(f"{name}-town-*.png"):
        old.unlink()
    listed = []
    for title, picture in evaluation.pictures:
        file = PICTURES / f"{name}-town-{picture.index:02d}.png"
        max_depth = evaluation.report["range_m"][1]
        # 256 colours: a third of the size, and these files stay in the history of the repository for ever
        drawn = Image.fromarray(draw_sweep(picture, max_depth, PICTURE_WIDTH)).quantize(256)
        content = BytesIO()
        drawn.save(content, "PNG", optimize=True)
        _write(docs / file, content.getvalue())
        listed.append({"title": title, "file": file.as_posix(), "abs_rel": picture.abs_rel})
    return listed


def _read(path: Path, missing: Any) -> Any:
    """JSON of a file, ``missing`` where there is none."""
    if not path.exists():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); mend it or restore it from git") from error


def _write(path: Path, content: str | bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another --docs") from error


if __name__ == "__main__":
    sys.exit(main())
