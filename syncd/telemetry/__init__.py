"""Tells how the service is: logs, metrics, health, systemd."""
