"""Where mail is read from: one adapter for each protocol or format."""
