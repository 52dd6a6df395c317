"""How fast everything is: ``python -m fsmde_ros.benchmark``."""
