"""Full-text search over an archive: an index beside it that follows from it, and may be deleted at any time."""
