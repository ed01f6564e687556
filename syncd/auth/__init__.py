"""Signing in: SASL steps and where secrets are read."""
