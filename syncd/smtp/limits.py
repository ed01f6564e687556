"""Words by which servers say that an account, or this machine, sends too much. One table, each row with a real reply.

RFC 5321 and 3463 have no code for this. Servers say it with 421, 450, 451, 452 and 454, but also with 550, 552 and 554,
which mean "never again" for a message, so only the words tell the difference. A row has a pattern, replies as servers
send them, and where each is reported. To add a server, add a row or a reply. The tests read this table: a pattern must
find each of its replies, and none may find a reply about a mailbox, a recipient or one message.

`ACCOUNT` is about the account: waiting helps. `CONNECTION` is about this connection, or about several at the same time:
behind 421 it only asks for a new connection (S28), behind other codes waiting helps too.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Said(NamedTuple):
    """A real reply, and the server that says so or the place where it is reported."""

    reply: str
    source: str


class Row(NamedTuple):
    """`pattern` is searched in the text of a reply, in any case."""

    pattern: str
    known: tuple[Said, ...]


_MAIL = r"(?:e-?mails?|mails?|messages?|recipients?|rcpts?)"
_TIME = r"(?:seconds?|minutes?|hours?|hrs?|days?|weeks?|months?|24)"

ACCOUNT: Final = (
    Row(
        r"unusual (?:\w+ )?(?:rate|activity|traffic|volume)|unusual sending|unexpected volume",
        (
            Said(
                "421 4.7.28 [192.0.2.1] Our system has detected an unusual rate of unsolicited mail originating from "
                "your IP address. To protect our users from spam, mail sent from your IP address has been temporarily "
                "rate limited.",
                "Gmail, support.google.com/a/answer/3726730",
            ),
            Said(
                "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user "
                "complaints",
                "Yahoo, smtpfieldmanual.com/provider/yahoo/421/4.7.0",
            ),
            Said("554 5.4.6 Unusual sending activity detected", "Zoho Mail"),
        ),
    ),
    Row(
        r"(?:hourly|daily|weekly|monthly) (?:[\w-]+ ){0,4}?(?:limit|quota|allowance|rate)",
        (
            Said(
                "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to …",
                "Gmail, support.google.com/a/answer/166852",
            ),
            Said(
                "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
                "Microsoft 365",
            ),
            Said(
                "550 5.7.233 Your message can't be sent because your tenant has exceeded its daily limit for sending "
                "email to external recipients (tenant external recipient rate limit).",
                "Microsoft 365, learn.microsoft.com/answers/questions/5835651",
            ),
        ),
    ),
    Row(
        r"exceeded (?:\w+ )?threshold",
        (
            Said(
                "550 5.7.705 Access denied, tenant has exceeded threshold",
                "Microsoft 365, geek-forum.com/t/34726",
            ),
        ),
    ),
    Row(
        r"submission\s*quota",
        (
            Said(
                "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message",
                "Exchange Online, github.com/MicrosoftDocs/OfficeDocs-Support/issues/1150",
            ),
        ),
    ),
    Row(
        r"throttl",
        (
            Said(
                "454 Throttling failure: Daily message quota exceeded",
                "Amazon SES, docs.aws.amazon.com/ses, manage-sending-quotas-errors",
            ),
            Said(
                "454 Throttling failure: Maximum sending rate exceeded",
                "Amazon SES, docs.aws.amazon.com/ses, manage-sending-quotas-errors",
            ),
            Said(
                "550 Sender is throttled",
                "SmarterMail, hostbuddy.com/support/kb/a1533",
            ),
        ),
    ),
    Row(
        r"credits? (?:limit )?(?:exceeded|exhausted)",
        (
            Said(
                "451 Authentication failed: Maximum credits exceeded",
                "SendGrid, github.com/mautic/mautic/issues/8721",
            ),
        ),
    ),
    Row(
        rf"(?:max|maximum|number|limit|quota)\b[^;]{{0,60}}?\bper (?:\d+ )?{_TIME}",
        (
            Said(
                "550 Domain example.org has exceeded the max emails per hour (123/100 (123%)) allowed. "
                "Message discarded.",
                "Exim with cPanel, help.brixly.uk, rate limit errors",
            ),
            Said(
                "550 Domain example.org has exceeded the max defers and failures per hour (5/5 (38%)) allowed. "
                "Message discarded.",
                "Exim with cPanel, demo.adeska.de/kundenportal/knowledgebase/133",
            ),
            Said(
                "554 5.7.1 <DATA>: Data command rejected: limit of 400 rcpts per 24 hours for client "
                "me@example.org reached",
                "Postfix with a policy service, github.com/deltachat/deltachat-core/issues/647",
            ),
            Said(
                "450 4.7.1 <END-OF-MESSAGE>: End-of-data rejected: Number messages per hour exceeded. Error:RATE_MSG",
                "postfwd, github.com/rubymonsters/speakerinnen_liste/issues/1357",
            ),
            Said(
                "450 4.7.1 <me@example.org>: Sender address rejected: sorry, max 2 requests per hour.",
                "postfwd, github.com/docker-mailserver/docker-mailserver/issues/1476",
            ),
        ),
    ),
    Row(
        rf"only \d+ {_MAIL} per {_TIME}",
        (
            Said(
                "554 5.7.1 <DATA>: Data command rejected: only 10 messages per day",
                "Postfix with a policy service, github.com/root-io/vmail/issues/67",
            ),
        ),
    ),
    Row(
        r"(?:\d+[- ])?(?:hour|hr|day|month)s?['’]?s?[- ](?:[\w-]+ )?(?:limit|quota)",
        (
            Said(
                "550 User me@example.org has exceeded its 24-hour sending limit. Messages to 25 recipients out of 25",
                "github.com/nodemailer/nodemailer/issues/1137",
            ),
            Said(
                "550 mail rejected: exceeded hour limit",
                "github.com/gophish/gophish/issues/3231",
            ),
        ),
    ),
    Row(
        r"(?:send|sending|sent|outgoing|outbound|relay|relaying|smtp) (?:[\w-]+ )?(?:limits?|quotas?|rates?)\b",
        (
            Said(
                "450 Mail send limit exceeded.",
                "Ionos, ionos.com/help, mass mailing limits",
            ),
            Said(
                "550 User has exceeded outgoing email quota",
                "github.com/ChangemakerStudios/Papercut-SMTP/issues/199",
            ),
            Said(
                "552 Message would take you over your relay quota of 500 Current quota used: 487",
                "github.com/WWBN/AVideo/issues/7527",
            ),
            Said(
                "554 5.7.1 Reached address outgoing limits for me@example.org",
                "Migadu, github.com/freescout-help-desk/freescout/issues/4005",
            ),
            Said(
                "450 4.2.1 Peak SMTP relay limit exceeded for customer.",
                "Google Workspace, support.google.com/a/answer/3726730",
            ),
        ),
    ),
    Row(
        rf"(?:{_MAIL}|messaging) (?:quota )?limits?\b",
        (
            Said(
                "550 5.7.1 Your mail limit has been reached.",
                "StartMail, support.startmail.com, 360006737337",
            ),
            Said(
                "450 Your account reached its email quota limit. Contact support to increase it. #MS42204",
                "MailerSend, github.com/geeksforsocialchange/PlaceCal/issues/2297",
            ),
            Said(
                "451 You've exceeded your messaging limits",
                "SendGrid, github.com/WA-WF-Bot/WA-WF-Bot-Public/issues/282",
            ),
        ),
    ),
    Row(
        rf"{_MAIL}[- ]count (?:limit|quota)|policy rejection\W+(?:\w+ ){{0,4}}?quota exceeded",
        (
            Said(
                "450 4.7.1 <me@example.org>: Recipient address rejected: Policy Rejection- Quota Exceeded.",
                "policyd, github.com/bbottema/simple-java-mail/issues/348",
            ),
            Said(
                "450 4.7.1 <me@example.org>: Sender address rejected: message count quota exceeded",
                "policyd, aditsystems.info/mailsystem/mailspeicher/limitmails",
            ),
        ),
    ),
    Row(
        rf"number of (?:[\w-]+ ){{0,3}}?{_MAIL}\b(?! per session)",
        (
            Said(
                "554 5.7.0 Your message could not be sent. The limit on the number of allowed outgoing messages was "
                "exceeded. Try again later.",
                "Plesk, plesk.com/kb, 213389069",
            ),
        ),
    ),
    Row(
        r"rate[- ]?limit|rate (?:was |is )?exceeded",
        (
            Said(
                '451 4.7.1 Ratelimit "user" exceeded',
                "Rspamd with mailcow, github.com/mailcow/mailcow-dockerized/issues/1497",
            ),
            Said(
                "550 Please wait to send more emails, or contact support for a rate limit increase.",
                "Purelymail, github.com/Purelymail/purelymail-issues/issues/262",
            ),
        ),
    ),
    Row(
        r"too (?:quickly|fast)|slow down|slower|at a rate that prevents",
        (
            Said(
                "554 5.7.1 <me@example.org>: SASL login name rejected: You are sending too many emails too fast.",
                "Mailu, github.com/Mailu/Mailu/issues/2416",
            ),
            Said(
                "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional "
                "messages from being delivered.",
                "Gmail, support.google.com/a/answer/3726730",
            ),
        ),
    ),
    Row(
        r"too much mail",
        (
            Said(
                "450 4.7.1 Error: too much mail from 192.0.2.1",
                "Postfix, anvil(8), smtpd_client_message_rate_limit",
            ),
        ),
    ),
    Row(
        r"too many (?:outgoing |sent )?(?:e-?mails|mails|messages) (?:from|sent|in (?:the )?last)\b",
        (
            Said(
                "450 4.7.1 <me@example.org>: Sender address rejected: Deferring: Too many messages from sender "
                "in last 60",
                "policyd, pastebin.com/V80548k6",
            ),
        ),
    ),
    Row(
        r"reached its limit for processing",
        (
            Said(
                "451 The server has reached its limit for processing requests from your host. Please try again later.",
                "Exim with cPanel, github.com/swiftmailer/swiftmailer/issues/658",
            ),
        ),
    ),
)

CONNECTION: Final = (
    Row(
        r"too many (?:\w+ )?(?:e-?mails|mails|messages)\b",
        (
            Said(
                "550 sorry, too many emails (#5.7.1)",
                "OVH, github.com/aschroder/Magento-SMTP-Pro-Email-Extension/issues/94",
            ),
        ),
    ),
    Row(
        r"(?:concurrent|simultaneous) (?:smtp )?(?:connections|sessions)|connections? (?:rate )?limit",
        (
            Said(
                "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
                "Exchange Online",
            ),
            Said(
                "452 4.3.2 Connection rate limit exceeded.",
                "Sendmail, metacpan.org/pod/Sisimai::Reason::RateLimited",
            ),
        ),
    ),
    Row(
        r"too many (?:\w+ )?(?:connections|sessions)",
        (
            Said(
                "554 Too many connections from your address",
                "git.oopen.de, postfwd, README.default-rate-limits",
            ),
        ),
    ),
    Row(
        rf"number of {_MAIL} per session",
        (
            Said(
                "452 4.4.5 Maximum number of messages per session exceeded.",
                "Stalwart, github.com/stalwartlabs/stalwart/issues/1384",
            ),
        ),
    ),
)

_ACCOUNT: Final = re.compile("|".join(row.pattern for row in ACCOUNT), re.IGNORECASE)
_CONNECTION: Final = re.compile("|".join(row.pattern for row in CONNECTION), re.IGNORECASE)
_LONG: Final = re.compile(r"daily|hour|hrs?\b|\bdays?\b|month|24|quota|unusual|threshold|credits", re.IGNORECASE)
# a full mailbox and a message that is too large have limits and quotas, too (RFC 3463 §3.3, §3.4)
_NO_STATUS: Final = frozenset({"2.2", "2.3", "3.4"})
_SIZE: Final = re.compile(
    r"\bsiz(?:e|ed)\b|too (?:large|big|long)|octets|\bbytes|\d ?[kmg]i?b\b|\blength\b|mailbox (?:is )?full|over ?quota"
    r"|storage|disk|hop count|too many hops|attachment",
    re.IGNORECASE,
)


def limits_account(text: str) -> bool:
    """Returns whether the text of a reply, codes included, says that the account sends too much."""
    return _ACCOUNT.search(text) is not None and not _is_about_size(text)


def limits_connection(text: str) -> bool:
    """Returns whether it says so of the connection, or of several at the same time."""
    return _CONNECTION.search(text) is not None and not _is_about_size(text)


def is_long(text: str) -> bool:
    """Returns whether the words mean hours or a day."""
    return _LONG.search(text) is not None


def _is_about_size(text: str) -> bool:
    status = re.match(r"\d{3}[ -][245]\.(\d{1,3}\.\d{1,3})\b", text)
    return (status is not None and status[1] in _NO_STATUS) or _SIZE.search(text) is not None
