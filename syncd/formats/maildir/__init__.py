"""Maildir++: names, folders and files."""
