"""One run: plan, transfer, recovery, removal."""
