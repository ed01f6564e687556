"""SMTP and LMTP as a destination."""
