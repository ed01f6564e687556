"""Looks into a message for people and for search: its parts, their text. Nothing here changes what is delivered."""
