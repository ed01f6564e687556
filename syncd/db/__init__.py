"""The ledger: what is known of each message and each of its deliveries."""
