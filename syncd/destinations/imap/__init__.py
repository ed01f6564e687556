"""IMAP mailboxes as destinations."""
