"""The private Postfix, Dovecot's LMTP and submission: what they offer, what they keep, and that nothing is left."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.servers import postfix as module
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import as_stored
from tests.servers.postfix import Postfix
from tests.servers.sink import Sink
from tests.support import mail

pytestmark = pytest.mark.servers

TEXT = b"Subject: hi\r\n\r\n.a dot, and gr\xfc\xdfe\r\n"


def context(postfix: Postfix) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(postfix.ca_file))


def signed_in(postfix: Postfix, user: str, port: int) -> smtplib.SMTP_SSL:
    client = smtplib.SMTP_SSL("localhost", port, context=context(postfix))
    client.login(user, "secret")
    return client


def test_a_signed_in_client_delivers_octet_by_octet(postfix: Postfix, user: str) -> None:
    messages = [*mail.samples().values(), *mail.realistic(20, seed=1), TEXT]
    for port in (postfix.ports.submissions, postfix.ports.without_bdat):
        with signed_in(postfix, user, port) as client:
            for message in messages:
                client.sendmail("", [f"{user}@example.org"], message, ["BODY=8BITMIME"])
    arrived = postfix.received(f"{user}@example.org", at_least=2 * len(messages))
    assert len(arrived) == 2 * len(messages)
    wanted = [as_stored(message) for message in messages]
    for octets in arrived:
        assert any(octets.endswith(b"\n" + message) for message in wanted)


def test_what_it_offers(postfix: Postfix, user: str) -> None:
    with signed_in(postfix, user, postfix.ports.submissions) as client:
        offered = set(client.esmtp_features)
    assert offered >= {"pipelining", "chunking", "size", "dsn", "8bitmime", "enhancedstatuscodes", "auth"}
    with signed_in(postfix, user, postfix.ports.without_bdat) as client:
        assert "chunking" not in client.esmtp_features


def test_no_password_is_asked_for_before_tls(postfix: Postfix, user: str) -> None:
    with smtplib.SMTP("localhost", postfix.ports.submission) as client:
        client.ehlo()
        assert "auth" not in client.esmtp_features
        assert client.mail("")[0] == 530
        client.starttls(context=context(postfix))
        client.login(user, "secret")


def test_nobody_delivers_without_a_sign_in(postfix: Postfix) -> None:
    with (
        smtplib.SMTP_SSL("localhost", postfix.ports.submissions, context=context(postfix)) as client,
        pytest.raises(smtplib.SMTPRecipientsRefused, match="554"),
    ):
        client.sendmail("", ["me@example.org"], TEXT)


def test_a_wrong_password_is_refused(postfix: Postfix, user: str) -> None:
    with (
        smtplib.SMTP_SSL("localhost", postfix.ports.submissions, context=context(postfix)) as client,
        pytest.raises(smtplib.SMTPAuthenticationError, match="535"),
    ):
        client.login(user, "guess")


def test_some_recipients_are_refused_and_some_deferred(postfix: Postfix, user: str) -> None:
    with signed_in(postfix, user, postfix.ports.submissions) as client:
        client.mail("")
        assert client.rcpt("refused@example.org")[0] == 550
        assert client.rcpt("later@example.org")[0] == 450
        assert client.rcpt("me@example.org")[0] == 250


def test_nothing_leaves_this_machine(postfix: Postfix, user: str) -> None:
    with signed_in(postfix, user, postfix.ports.submissions) as client:
        client.sendmail("", ["somebody@example.com"], TEXT, ["BODY=8BITMIME"])
    assert postfix.received("somebody@example.com") == []
    assert "relay=none, delay" in postfix.log()


def test_settings_and_restart(dovecot: Dovecot) -> None:
    with Postfix(dovecot, {"message_size_limit": "1000"}) as server:
        with smtplib.SMTP(server.host, server.ports.smtp) as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "1000"
        server.restart({"message_size_limit": "2000"})
        with smtplib.SMTP(server.host, server.ports.smtp) as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "2000"


def test_nothing_is_left_after_the_block(dovecot: Dovecot) -> None:
    with Postfix(dovecot) as server:
        family = psutil.Process(server.process_id).children(recursive=True)
        base = server.log_file.parent
        assert family
    _, alive = psutil.wait_procs(family, timeout=10)
    assert all(child.status() == psutil.STATUS_ZOMBIE for child in alive)
    assert not base.exists()


def test_a_killed_parent_takes_the_server_with_it(postfix: Postfix) -> None:
    script = (
        "import os, tests.servers.dovecot as d, tests.servers.postfix as p; a = d.Dovecot(); s = p.Postfix(a);"
        "s.start(); print(s.process_id, flush=True); os.kill(os.getpid(), 9)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd(), check=False)
    assert shown.stdout, shown.stderr
    try:
        server = psutil.Process(int(shown.stdout))
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs([server], timeout=60)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


def test_it_says_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch, dovecot: Dovecot) -> None:
    monkeypatch.setattr(module.os, "getuid", lambda: 1000)
    with pytest.raises(RuntimeError, match="starts as root only, and this is not root"):
        Postfix(dovecot)


# --- Dovecot ---------------------------------------------------------------------------------------------


def test_dovecot_takes_mail_by_lmtp(dovecot: Dovecot, user: str) -> None:
    with smtplib.LMTP(dovecot.host, dovecot.lmtp_port) as client:
        client.ehlo()
        assert set(client.esmtp_features) >= {"pipelining", "chunking", "8bitmime", "enhancedstatuscodes"}
        refused = client.sendmail("", [f"{user}@example.org", "nobody@example.org"], TEXT)
    assert set(refused) == {"nobody@example.org"}
    (arrived,) = dovecot.received(user)
    assert arrived.endswith(b"\n" + as_stored(TEXT))


def test_dovecot_submission_hands_on_to_a_receiver_of_another_make() -> None:
    with Sink() as sink, Dovecot(relay=(sink.host, sink.port)) as server:
        server.add_user("me")
        trusted = ssl.create_default_context(cafile=str(server.ca_file))
        with smtplib.SMTP_SSL("localhost", server.submissions_port, context=trusted) as client:
            client.login("me", "secret")
            client.sendmail("", ["you@example.org"], TEXT, ["BODY=8BITMIME"])
        (arrived,) = sink.received("you@example.org")
    assert arrived.endswith(b"\r\n" + TEXT)
