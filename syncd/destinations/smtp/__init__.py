"""SMTP and LMTP as a destination; start with `route.py`."""
