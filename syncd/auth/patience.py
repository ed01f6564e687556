"""Words of a refused sign-in that mean "later". One list for all protocols (pure).

Servers that throttle, or have a passing fault, mostly refuse a sign-in with the code of a wrong password. POP3 has
response codes for the difference, [LOGIN-DELAY] and [SYS/TEMP] (RFC 2449 §8.1.1, RFC 3206 §4); SMTP has 454 (RFC 4954
§6); IMAP has [UNAVAILABLE] and [LIMIT] (RFC 5530 §3). Where the code is missing, only the words tell the difference.

Where the words come from:

    too many                 Gmail "Too many login attempts, please try again later", "Too many simultaneous …"
    temporar                 RFC 4954 §6 and RFC 3463 §3.8: "temporary authentication failure", as Dovecot says it too
    throttl                  Exchange "Request is throttled. Suggested Backoff Time: N milliseconds"
    rate limit               Yahoo "[LIMIT] … Rate limit hit"
    try again later          Gmail, as above
    server or service,       Exchange "Server Unavailable. 15"; RFC 5321 §4.2.3 "service not available", in the words
    busy or unavailable      of Postfix and others "service unavailable"

"Try again" alone is not in the list, because servers say it of wrong passwords too (Gmail "Learn more or try again").
"Busy" alone is not, because it stands in lists of possible causes (NetEase "password is incorrect, login frequency
limited, or system is busy").
"""

from __future__ import annotations

import re

_LATER = re.compile(
    rb"too many|temporar|throttl|rate.?limit|try again later|(server|service) (is )?(too )?(busy|unavailable)",
    re.IGNORECASE,
)


def says_later(text: bytes) -> bool:
    """Returns True if the text of a refused sign-in asks to try again later, rather than for another password."""
    return _LATER.search(text) is not None
