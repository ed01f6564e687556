"""Mbox files: those of mail programs, and archives of syncd."""
