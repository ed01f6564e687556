from __future__ import annotations

import pytest

from syncd.errors import RemoteProtocolError, Retry, WrongService
from syncd.net.greetings import is_other, not_a_greeting, not_tls, recognise

ADDRESS = "mail.example.net:110"


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"+OK", "POP3"),
        (b"+OK ready\r\n", "POP3"),
        (b"-ERR busy\r\n", "POP3"),
        (b"+OKAY\r\n", ""),
        (b"* OK ready", "IMAP"),
        (b"* PREAUTH in", "IMAP"),
        (b"* BYE", "IMAP"),
        (b"220 mx ESMTP Postfix\r\n", "SMTP"),
        (b"220-mx\r\n220 go on\r\n", "SMTP"),
        (b"554 5.7.1 go away\r\n", "SMTP"),
        (b"220 mx LMTP ready\r\n", "LMTP"),
        (b"220 (vsFTPd 3.0.3)\r\n", "FTP"),
        (b"200 news ready\r\n", "NNTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"\n<!DOCTYPE HTML>\n", "HTTP"),
        (b"\x16\x03\x03\x00\x7a", "TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "TLS"),
        (b'"IMPLEMENTATION" "Dovecot Pigeonhole"\r\n', "ManageSieve"),
        (b"RFB 003.008\n", "VNC"),
        (b"\xff\xfd\x18", "Telnet"),
        (b"", ""),
        (b"hello\r\n", ""),
        (b"2200 octets", ""),
    ],
)
def test_a_service_is_recognised_by_its_first_octets(octets: bytes, name: str):
    assert recognise(octets) == name


def test_smtp_and_lmtp_greet_alike():
    assert not is_other(b"220 mx ESMTP\r\n", "LMTP")
    assert not is_other(b"220 mx LMTP\r\n", "SMTP")
    assert is_other(b"+OK\r\n", "SMTP")
    assert not is_other(b"hello\r\n", "SMTP")


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (
            b"* OK IMAP4rev1 ready\r\n",
            (
                "an IMAP server answers here, not POP3: “* OK IMAP4rev1 ready”; check host and port: POP3 mostly has "
                '995 for security = "tls" and 110 for "starttls"'
            ),
        ),
        (b"\x16\x03\x03", 'this port begins with TLS; set security = "tls", or the port that begins in clear'),
        (
            b"who are you",
            (
                "what answers here is no POP3 server: “who are you”; check host and port: POP3 mostly has 995 for "
                'security = "tls" and 110 for "starttls"'
            ),
        ),
    ],
)
def test_one_line_says_what_answers_and_what_to_change(octets: bytes, says: str):
    error = not_a_greeting(ADDRESS, "POP3", octets)
    assert isinstance(error, WrongService)
    assert error.retry is Retry.NEVER
    assert str(error) == f"{ADDRESS}: {says}"


def test_only_a_busy_server_is_tried_again():
    error = not_a_greeting(ADDRESS, "POP3", b"Too many connections", busy=True)
    assert type(error) is RemoteProtocolError
    assert error.retry is Retry.LATER
    assert isinstance(not_a_greeting(ADDRESS, "POP3", b"* BYE too many connections", busy=True), WrongService)


def test_a_greeting_that_is_nearly_right_is_told_by_its_own_fault():
    assert (
        str(not_a_greeting(ADDRESS, "POP3", b"+OK x\n", "it ends lines with LF")) == f"{ADDRESS}: it ends lines with LF"
    )


def test_what_answers_where_tls_should_begin():
    assert 'set security = "starttls", or the port that begins with TLS, usually 995' in str(
        not_tls(ADDRESS, "POP3", b"+OK\r\n")
    )
    assert "an SMTP server answers here, in clear" in str(not_tls(ADDRESS, "POP3", b"220 mx\r\n"))
    assert not_tls(ADDRESS, "POP3", b"\x15\x03\x01\x00\x02\x02\x28") is None
    assert not_tls(ADDRESS, "POP3", b"") is None
