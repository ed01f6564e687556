"""The configuration: typed, merged, checked at once."""
