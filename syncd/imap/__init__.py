"""IMAP (RFC 3501, 9051): a sans-IO core and a blocking client."""
