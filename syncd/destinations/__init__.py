"""Destinations: one adapter for each protocol or format that mail is delivered to."""
