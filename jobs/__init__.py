"""The service: jobs that run on their schedules, in one process or on many machines."""
