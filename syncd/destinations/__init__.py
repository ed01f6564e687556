"""Where mail goes: one adapter for each protocol or format."""
