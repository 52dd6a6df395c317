"""Faults on purpose: what goes wrong on a vehicle, put into a recorded bag by a seed."""
