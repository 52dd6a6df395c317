"""What stands behind ``python -m training.evaluate``: points, rows, intervals, overlap, calibration, report."""
