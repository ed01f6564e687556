"""`syncd verify`: source, ledger and destinations of a job compared message by message.

values         words of the report: statuses, entries, counts            (pure)
comparison     one message at both ends: equal, altered, different       (pure)
scratch        what was seen, in a temporary file
ends           an account or archive that is read
spots          where a destination has a message, from its receipt
proof          the story: a mailbox after the other, then what is left
report         the result: canonical JSON and its digest
formats        the report as Markdown, JSON and HTML
"""
