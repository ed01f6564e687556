"""What the service tells of itself: logs, metrics, health, notices."""
