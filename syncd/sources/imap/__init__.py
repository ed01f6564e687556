"""An IMAP account as a source."""
