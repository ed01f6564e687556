"""POP3 (RFC 1939): a sans-IO core and a blocking client."""
