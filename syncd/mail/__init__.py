"""Messages and their octets, as values."""
