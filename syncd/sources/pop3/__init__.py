"""A POP3 account as a source."""
