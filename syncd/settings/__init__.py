"""The configuration: typed, merged, checked in one go."""
