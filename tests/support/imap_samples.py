"""Responses of IMAP servers, and the events they are: for tests of the core and as seeds of the fuzz harness."""

from __future__ import annotations

from typing import Any

from syncd.imap.events import (
    Continuation,
    Enabled,
    Event,
    Exists,
    Expunge,
    FlagsTold,
    Found,
    Identity,
    Listing,
    QuotaRoots,
    QuotaTold,
    Recent,
    StatusRow,
    Tagged,
    Unknown,
    Vanished,
)
from syncd.imap.values import (
    BODY,
    HEADER,
    Capabilities,
    Code,
    FetchRow,
    Kind,
    MailboxRow,
    MailboxStatus,
    ModSeq,
    Namespace,
    Namespaces,
    Quota,
    SeqNum,
    Status,
    Uid,
    UidValidity,
    Verb,
)

DATE = b"17-Jul-1996 02:44:25 -0700"


def row(seq: int, uid: int = 0, **more: Any) -> FetchRow:
    return FetchRow(SeqNum(seq), Uid(uid))._replace(**more)


def box(name: bytes, delimiter: bytes = b"/", *attributes: str) -> MailboxRow:
    return MailboxRow(name, delimiter, frozenset(attributes))


SAMPLES: list[tuple[bytes, list[Event]]] = [
    # status
    (b"* OK still here\r\n", [Status(Kind.OK, text=b"still here")]),
    (b"* ok\r\n", [Status(Kind.OK)]),
    (b"* OK [UNSEEN 12] Message 12\r\n", [Status(Kind.OK, Code("UNSEEN", b"12"), b"Message 12")]),
    (b"* OK [HIGHESTMODSEQ 715194045007]\r\n", [Status(Kind.OK, Code("HIGHESTMODSEQ", b"715194045007"))]),  # I03
    (b"* NO [ALERT] disk\r\n", [Status(Kind.NO, Code("ALERT"), b"disk")]),
    (b"* BAD what {5}\r\n", [Status(Kind.BAD, text=b"what {5}")]),  # no literal
    (b"* BYE  Session expired \r\n", [Status(Kind.BYE, text=b"Session expired ")]),
    (b'* OK [PERMANENTFLAGS (\\Seen \\*)] "{3}\r\n',
     [Status(Kind.OK, Code("PERMANENTFLAGS", b"(\\Seen \\*)"), b'"{3}')]),
    (b"* OK [X-NEW (a b) 7] text\r\n", [Status(Kind.OK, Code("X-NEW", b"(a b) 7"), b"text")]),
    # the ends of commands
    (b"a1 OK done\r\n", [Tagged("a1", Verb.NOOP, Status(Kind.OK, text=b"done"))]),
    (b"a2 NO [LIMIT] slow\r\n", [Tagged("a2", Verb.UID_FETCH, Status(Kind.NO, Code("LIMIT"), b"slow"))]),
    (b"a1 bad\r\n", [Tagged("a1", Verb.NOOP, Status(Kind.BAD))]),
    # continuation
    (b"+ go on\r\n", [Continuation(b"go on")]),
    (b"+ \r\n", [Continuation(b"")]),
    (b"+\r\n", [Continuation(b"")]),  # I20
    (b"+ cGFzcw==\r\n", [Continuation(b"cGFzcw==")]),
    # what a server says of itself
    (b"* CAPABILITY IMAP4rev1 auth=plain \r\n", [Capabilities(("IMAP4REV1", "AUTH=PLAIN"), known=True)]),  # I03
    (b"* ENABLED CONDSTORE qresync\r\n", [Enabled(("CONDSTORE", "QRESYNC"))]),
    (b"* ENABLED\r\n", [Enabled(())]),  # I103
    (b'* ID ("Name" "Cyrus" "version" NIL "os" {3}\r\nBSD)\r\n', [Identity({"name": "Cyrus", "os": "BSD"})]),
    (b"* ID NIL\r\n", [Identity({})]),
    (
        b'* NAMESPACE (("INBOX." ".")) NIL (("" NIL)("#shared/" "/" "X-PARAM" ("a" "b")))\r\n',
        [
            Namespaces(
                (Namespace(b"INBOX.", b"."),), (), (Namespace(b"", b""), Namespace(b"#shared/", b"/"))
            )
        ],
    ),
    (b"* NAMESPACE NIL NIL NIL\r\n", [Namespaces()]),  # I121
    (b"* NAMESPACE NIL\r\n", [Unknown("NAMESPACE")]),
    # mailboxes
    (b'* LIST (\\HasNoChildren) "/" INBOX\r\n', [Listing(Verb.LIST, box(b"INBOX", b"/", "\\hasnochildren"))]),
    (b'* LIST () NIL "a \\"b\\" \\\\c"\r\n', [Listing(Verb.LIST, box(b'a "b" \\c', b""))]),  # I34, I38
    (b'* LIST (\\Sent) "\\\\" {7}\r\na\r\nb {1\r\n', [Listing(Verb.LIST, box(b"a\r\nb {1", b"\\", "\\sent"))]),  # I38
    (b'* LIST () "/" NIL\r\n', [Listing(Verb.LIST, box(b"NIL"))]),
    (b'* LIST () "/" R&D\xfc\r\n', [Listing(Verb.LIST, box(b"R&D\xfc"))]),  # I39, I123
    (b'* LIST () "/" {0}\r\n\r\n', [Listing(Verb.LIST, box(b""))]),
    (b'* LSUB () "." "x"\r\n', [Listing(Verb.LSUB, box(b"x", b"."))]),
    (
        b'* LIST (\\Subscribed \\NonExistent) "/" "x" ("CHILDINFO" ("SUBSCRIBED"))\r\n',
        [Listing(Verb.LIST, box(b"x", b"/", "\\subscribed", "\\nonexistent"))],
    ),
    (
        b'* STATUS "a b" (MESSAGES 231 UIDNEXT 44292 UIDVALIDITY 1795900358270 HIGHESTMODSEQ 0 SIZE 7) \r\n',
        [StatusRow(b"a b", MailboxStatus(231, 44292, UidValidity(1795900358270), None, size=7))],  # I03, I113, I118
    ),
    (
        b"* STATUS {3}\r\na b (HIGHESTMODSEQ 9007199254740993 MAILBOXID (F-1) UNSEEN 3 RECENT x)\r\n",
        [StatusRow(b"a b", MailboxStatus(modseq=ModSeq(9007199254740993), unseen=3, mailbox_id="F-1"))],  # I113
    ),
    (b"* STATUS INBOX ()\r\n", [StatusRow(b"INBOX", MailboxStatus())]),  # I48
    (b"* STATUS a (APPENDLIMIT 257890)\r\n", [StatusRow(b"a", MailboxStatus(append_limit=257890))]),  # RFC 7889
    (b"* STATUS a (APPENDLIMIT NIL)\r\n", [StatusRow(b"a", MailboxStatus())]),
    (b"* STATUS\r\n", [Unknown("STATUS")]),  # I48
    (b"* FLAGS (\\Seen \\Answered $x)\r\n", [FlagsTold(("\\Answered", "\\Seen", "$x"))]),
    (b'* FLAGS ("\\\\Seen" a)\r\n', [FlagsTold(("\\Seen", "a"))]),  # I148
    (b"* FLAGS NIL\r\n", [FlagsTold(())]),  # I148
    # messages
    (b"* 23 EXISTS\r\n", [Exists(23)]),
    (b"* 5 recent\r\n", [Recent(5)]),
    (b"* 44 EXPUNGE\r\n", [Expunge(SeqNum(44))]),
    (b"* VANISHED (EARLIER) 41,43:116\r\n", [Vanished(((41, 41), (43, 116)), earlier=True)]),
    (b"* VANISHED 405\r\n", [Vanished(((405, 405),), earlier=False)]),
    (b"* VANISHED (EARLIER)\r\n", [Vanished((), earlier=True)]),  # I112
    (b"* SEARCH 2 84 882\r\n", [Found(((2, 2), (84, 84), (882, 882)))]),
    (b"* SEARCH 0 3 \r\n", [Found(((3, 3),))]),  # I65
    (b"* SEARCH\r\n", [Found(())]),
    (b"* SEARCH 2 5 (MODSEQ 917162500)\r\n", [Found(((2, 2), (5, 5)))]),
    (
        b'* ESEARCH (TAG "a1") UID COUNT 17 ALL 4:18,21,28\r\n',
        [Found(((4, 18), (21, 21), (28, 28)), "a1", extended=True, total=17)],
    ),
    (b"* ESEARCH MIN 2 MAX 47\r\n", [Found((), uids=False, extended=True, least=2, most=47)]),
    (b'* ESEARCH (TAG "a2") UID\r\n', [Found((), "a2", extended=True)]),
    # FETCH in one line
    (
        b'* 12 FETCH (FLAGS (\\Seen) INTERNALDATE "%s" RFC822.SIZE 4286 UID 7 MODSEQ (65402))\r\n' % DATE,
        [row(12, 7, flags=("\\Seen",), internal_date=DATE, size=4286, modseq=ModSeq(65402))],
    ),
    (b"* 1 FETCH (UID 7)\r\n", [row(1, 7)]),
    (b"* 1 FETCH (UID 7 )\r\n", [row(1, 7)]),
    (b"* 0 FETCH (FLAGS ())\r\n", [row(0, flags=())]),  # I136
    (b"* 1 FETCH ()\r\n", [row(1)]),  # I73
    (b"* 1 fetch (uid 7 rfc822.size 3)\r\n", [row(1, 7, size=3)]),
    (b"* 1 FETCH (INTERNALDATE NIL UID 7 FLAGS NIL)\r\n", [row(1, 7, flags=())]),  # I80, I148
    (b'* 1 FETCH (UID 7 FLAGS ("a b" \\\\x))\r\n', [row(1, 7, flags=("\\\\x", "a b"))]),
    (b'* 1 FETCH (INTERNALDATE "00-Jan-0000 00:00:00 +0000" UID 7)\r\n',
     [row(1, 7, internal_date=b"00-Jan-0000 00:00:00 +0000")]),  # I143
    (
        b'* 1 FETCH (X-GM-LABELS ("\\\\Inbox" Foo "a b" {3}\r\n]x[) X-GM-MSGID 1278455344230334865 UID 7)\r\n',
        [row(1, 7, labels=(b"\\Inbox", b"Foo", b"a b", b"]x["), gmail_id=1278455344230334865)],
    ),
    (b"* 1 FETCH (UID 7 EMAILID (M6d99) THREADID NIL)\r\n", [row(1, 7, email_id="M6d99")]),
    # I86: nobody asks for them, and they are read to their end
    (
        b'* 3 FETCH (ENVELOPE ("Mon, 7 Feb" "x) {3}" (("A" NIL "a" {5}\r\nb.org)) NIL "<1@x>") UID 7)\r\n',
        [row(3, 7)],
    ),
    (
        b'* 3 FETCH (BODYSTRUCTURE (("TEXT" "PLAIN" ("A" "B") NIL "7BIT" -1)("TEXT") "MIXED" ("C" "(}")) UID 7)\r\n',
        [row(3, 7)],
    ),
    # FETCH with literals
    (b"* 2 FETCH (UID 7 BODY[] {4}\r\nab\r\n)\r\n", [row(2, 7, body=b"ab\r\n", texts=BODY)]),
    (b"* 2 FETCH (BODY[] {4}\r\n)\r\n* UID 7)\r\n", [row(2, 7, body=b")\r\n*", texts=BODY)]),  # I133
    (
        b'* 2 FETCH (BODY[] {2}\r\nab FLAGS (x) UID 7 INTERNALDATE "%s" RFC822.SIZE 2 MODSEQ (3))\r\n' % DATE,
        [row(2, 7, flags=("x",), internal_date=DATE, size=2, modseq=ModSeq(3), body=b"ab", texts=BODY)],  # I133
    ),
    (b"* 2 FETCH (UID 7 BODY[HEADER] {2}\r\nab)\r\n", [row(2, 7, header=b"ab", texts=HEADER)]),
    (b"* 2 FETCH (UID 7 body[header] {2}\r\nab)\r\n", [row(2, 7, header=b"ab", texts=HEADER)]),  # I144
    (b"* 2 FETCH (UID 7 BODY.PEEK[] {2}\r\nab)\r\n", [row(2, 7, body=b"ab", texts=BODY)]),
    (b"* 2 FETCH (UID 7 BODY[] {0}\r\n FLAGS (x))\r\n", [row(2, 7, flags=("x",), body=b"", texts=BODY)]),  # I134
    (b"* 2 FETCH (UID 7 BODY[] NIL)\r\n", [row(2, 7, texts=BODY)]),  # I72
    (b'* 2 FETCH (UID 7 BODY[] "")\r\n', [row(2, 7, body=b"", texts=BODY)]),  # I72
    (b'* 2 FETCH (UID 7 BODY[] "a\\"b")\r\n', [row(2, 7, body=b'a"b', texts=BODY)]),
    (b"* 2 FETCH (UID 7 BODY[] ~{3}\r\na\0b)\r\n", [row(2, 7, body=b"a\0b", texts=BODY)]),  # RFC 9051 §4.3.1: literal8
    (
        b"* 2 FETCH (BODY[HEADER] {2}\r\nab BODY[] {3}\r\nabc UID 7)\r\n",
        [row(2, 7, header=b"ab", body=b"abc", texts=HEADER | BODY)],
    ),
    (
        b'* 2 FETCH (BODY[HEADER.FIELDS ("FROM" TO)] {2}\r\nab BODY[]<0> {1}\r\nx UID 7 BODY[TEXT] {1}\r\ny)\r\n',
        [row(2, 7)],  # I136, I144: not what is asked for
    ),
    # I134
    (b'* 2 FETCH (UID 7 ENVELOPE ("a {50}" NIL) FLAGS ("{50}"))\r\n', [row(2, 7, flags=("{50}",))]),
    (b'* 2 FETCH (UID 7 ENVELOPE ("a {50}\r\nb" NIL))\r\n', [row(2, 7)]),
    # what nobody knows (I01)
    (b"* XYZZY (a (b) {2}\r\nc) () d)\r\n", [Unknown("XYZZY")]),
    (b"* 7 XYZZY (a)\r\n", [Unknown("XYZZY")]),
    (b'* QUOTA "" (STORAGE 10 512 MESSAGE 3 x)\r\n', [QuotaTold(b"", Quota((10, 512)))]),
    (b"* QUOTA user.a ()\r\n", [QuotaTold(b"user.a", Quota())]),
    (b"* QUOTA user.a\r\n", [Unknown("QUOTA")]),
    (b'* QUOTAROOT "a b" "" user.a\r\n', [QuotaRoots(b"a b", (b"", b"user.a"))]),
    (b"* QUOTAROOT INBOX\r\n", [QuotaRoots(b"INBOX", ())]),
    (b"* QUOTAROOT INBOX (x)\r\n", [Unknown("QUOTAROOT")]),
    (b'* LIST () "/" a\r\n* 3 EXISTS\r\na1 OK x\r\n',
     [Listing(Verb.LIST, box(b"a")), Exists(3), Tagged("a1", Verb.NOOP, Status(Kind.OK, text=b"x"))]),
]  # fmt: skip
