"""Sources of mail: one adapter for each protocol or format."""
