"""How mail lies on disk."""
