"""Data in motion: the only room that imports rclpy."""
