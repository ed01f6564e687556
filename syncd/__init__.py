"""Mailbox migration and sync that loses nothing and doubles nothing."""
