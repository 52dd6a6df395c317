"""A procedural town: surround street drives with true depth, deterministic from a seed."""
