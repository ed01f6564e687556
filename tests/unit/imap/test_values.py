from __future__ import annotations

import pytest

from syncd.imap.values import Capabilities, Code, Kind, MailboxRow, Status


def test_capabilities_with_values():
    capabilities = Capabilities(("IMAP4REV1", "AUTH=PLAIN", "AUTH=LOGIN", "APPENDLIMIT=35651584", "APPENDLIMIT"))
    assert "IMAP4REV1" in capabilities
    assert "AUTH" not in capabilities
    assert capabilities.mechanisms == ("PLAIN", "LOGIN")
    assert capabilities.values("APPENDLIMIT") == ("35651584",)


@pytest.mark.parametrize(
    ("names", "octets"),
    [(("LITERAL+",), (1 << 63) - 1), (("LITERAL-",), 4096), (("IMAP4REV2",), 4096), (("IMAP4REV1",), -1)],
)
def test_i21_literals_that_need_not_be_asked_for(names: tuple[str, ...], octets: int):
    assert Capabilities(names).literal_octets == octets


@pytest.mark.parametrize(
    ("arguments", "number"),
    [(b"7", 7), (b"7 x", 7), (b"", None), (b"x", None), (b"9" * 18, int("9" * 18)), (b"9" * 19, None), (b"-1", None)],
)
def test_the_number_of_a_response_code(arguments: bytes, number: int | None):
    assert Code("UIDNEXT", arguments).number() == number


@pytest.mark.parametrize(
    ("attributes", "use", "selectable"),
    [
        ((), "", True),
        (("\\sent", "\\hasnochildren"), "\\Sent", True),
        (("\\noselect",), "", False),
        (("\\nonexistent", "\\subscribed"), "", False),
        (("\\allmail",), "\\All", True),
        (("\\spam",), "\\Junk", True),
        (("\\junk", "\\trash"), "\\Junk", True),
    ],
)
def test_i37_i44_attributes_of_a_mailbox(attributes: tuple[str, ...], use: str, selectable: bool):  # noqa: FBT001
    row = MailboxRow(b"x", b"/", frozenset(attributes))
    assert (row.use, row.selectable) == (use, selectable)


def test_a_status_in_words():
    assert str(Status(Kind.NO, Code("LIMIT"), b"too much\x07")) == "NO [LIMIT] too much\\x07"
    assert str(Status(Kind.BAD)) == "BAD"
    assert str(Status(Kind.OK, Code("UIDNEXT", b"7"), b"Predicted")) == "OK [UIDNEXT 7] Predicted"
