"""Folders of eml files: one message each."""
