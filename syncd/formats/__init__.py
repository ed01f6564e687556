"""Formats of mail on disk."""
