"""``python -m demo``: the main job from a recorded drive to a report, with real processes."""
