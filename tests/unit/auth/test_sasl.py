"""The choice of the mechanism."""

from __future__ import annotations

import pytest

from syncd.auth.sasl import CHOICES, Credentials, choose
from syncd.errors import LocalProtocolError, Retry, Unsupported
from syncd.secret import Secret

MASTER = Credentials("chief", Secret("hunter2"), "mail.example.net", 993, authzid="anna")
ME = Credentials("me", Secret("hunter2"), "mail.example.net", 587)
EVERYTHING = (
    "PLAIN LOGIN NTLM GSSAPI CRAM-MD5 XOAUTH2 OAUTHBEARER EXTERNAL SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-256-PLUS"
)
IN_TLS = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5"]


def chosen(offered: str, wanted: str = "auto", *, encrypted: bool = True, allow_insecure: bool = False) -> str:
    return choose(offered.split(), wanted, ME, encrypted=encrypted, allow_insecure=allow_insecure).name


def refused(offered: str, wanted: str = "auto", *, encrypted: bool = True) -> str:
    with pytest.raises(Unsupported) as caught:
        choose(offered.split(), wanted, ME, encrypted=encrypted, allow_insecure=False)
    assert caught.value.retry is Retry.NEVER
    assert str(caught.value).startswith("mail.example.net:587: ")
    return str(caught.value).removeprefix("mail.example.net:587: ")


def strongest_first(*, encrypted: bool, allow_insecure: bool = False) -> list[str]:
    """Returns what `auto` takes when the mechanisms that it took before are no longer offered."""
    offered, found = EVERYTHING.split(), list[str]()
    while True:
        try:
            mechanism = choose(offered, "auto", ME, encrypted=encrypted, allow_insecure=allow_insecure)
        except Unsupported:
            return found
        found.append(mechanism.name)
        offered.remove(mechanism.name)


def test_s20_auto_takes_the_strongest():
    assert strongest_first(encrypted=True) == IN_TLS
    assert strongest_first(encrypted=True, allow_insecure=True) == IN_TLS


def test_s20_auto_never_shows_a_password_on_a_clear_line():
    assert strongest_first(encrypted=False) == ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"]


def test_s20_unless_it_is_allowed_and_there_is_nothing_better():
    assert strongest_first(encrypted=False, allow_insecure=True) == [
        "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"
    ]  # fmt: skip


def test_names_are_taken_in_any_case():
    assert chosen("plain Scram-Sha-1") == "SCRAM-SHA-1"


@pytest.mark.parametrize("wanted", sorted(CHOICES - {"auto"}))
def test_what_is_wanted_is_taken_or_nothing(wanted: str):
    assert chosen(EVERYTHING, wanted) == wanted.upper()
    others = " ".join(name for name in EVERYTHING.split() if name != wanted.upper())
    said = refused(others, wanted)
    assert said == (
        f'the server does not offer {wanted.upper()}; it offers {others}; set auth = "auto" or one of these'
    )


@pytest.mark.parametrize("wanted", ["plain", "login", "xoauth2", "oauthbearer"])
def test_s20_what_shows_the_secret_is_refused_on_a_clear_line_even_if_wanted(wanted: str):
    assert refused(EVERYTHING, wanted, encrypted=False) == (
        f"{wanted.upper()} would show the secret to anyone on the way; "
        'set security = "tls" or "starttls", or allow_insecure = true'
    )
    assert chosen(EVERYTHING, wanted, encrypted=False, allow_insecure=True) == wanted.upper()


@pytest.mark.parametrize("wanted", ["ntlm", "user", "scram-sha-256-plus"])
def test_what_this_version_does_not_know(wanted: str):
    assert refused(EVERYTHING, wanted) == (
        f'auth = "{wanted}" is not available in this version; accepted: '
        "auto, cram-md5, external, login, oauthbearer, plain, scram-sha-1, scram-sha-256, xoauth2"
    )


PROTECT = 'set security = "tls" or "starttls"'


@pytest.mark.parametrize(
    ("offered", "encrypted", "expected"),
    [
        ("LOGIN PLAIN", False, f"and these would show the password to anyone on the way; {PROTECT}, or allow"),
        ("XOAUTH2 A", True, 'and none of these takes a password; set auth = "xoauth2", and give the access token or c'),
        ("NTLM GSSAPI", True, "and syncd knows none of these"),
        ("NTLM GSSAPI", False, f"and syncd knows none of these; in TLS it may offer more: {PROTECT}"),
    ],
)  # fmt: skip
def test_s20_an_error_says_what_is_offered_and_what_to_set(offered: str, encrypted: bool, expected: str):  # noqa: FBT001
    assert refused(offered, encrypted=encrypted).startswith(f"the server offers {offered}, {expected}")


def test_what_is_offered_is_shown_in_one_printable_line():
    assert refused("\x1b[2J").startswith("the server offers \\x1b[2J, and ")


def test_a_server_that_offers_no_mechanism():
    assert refused("") == "the server offers no mechanism to sign in by"
    assert refused("", encrypted=False) == f"the server offers no mechanism to sign in by; in TLS it may: {PROTECT}"
    assert refused("", "plain") == 'the server does not offer PLAIN; it offers no mechanism; set auth = "auto"'


def test_an_ipv6_host_is_written_in_brackets():
    with pytest.raises(Unsupported, match=r"^\[::1\]:110: "):
        choose([], "auto", Credentials("me", Secret("x"), "::1", 110), encrypted=True, allow_insecure=False)


def test_a_password_that_is_not_utf_8_goes_by_a_mechanism_that_takes_octets() -> None:
    me = Credentials("me", Secret(b"p\xe4ss"), "mail.example.net", 587)

    def first(offered: str) -> bytes | None:
        return choose(offered.split(), "auto", me, encrypted=True, allow_insecure=False).initial()

    assert first("SCRAM-SHA-256 PLAIN") == b"\0me\0p\xe4ss"
    with pytest.raises(LocalProtocolError, match='set auth = "plain"'):
        first("SCRAM-SHA-256")


def test_a_master_user_signs_in_for_another():
    offered = ["SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "EXTERNAL"]
    plain = choose(offered, "auto", MASTER, encrypted=True, allow_insecure=False)
    assert plain.initial() == b"anna\0chief\0hunter2"
    external = choose(offered, "external", MASTER, encrypted=True, allow_insecure=False)
    assert external.initial() == b"anna"
    bearer = choose(offered, "oauthbearer", MASTER, encrypted=True, allow_insecure=False).initial()
    assert bearer is not None
    assert bearer.startswith(b"n,a=anna,\x01")


@pytest.mark.parametrize(("offered", "wanted"), [(["SCRAM-SHA-1", "LOGIN"], "auto"), (["LOGIN", "PLAIN"], "login")])
def test_mechanisms_that_cannot_name_another_user_are_not_used_for_one(offered: list[str], wanted: str):
    with pytest.raises(Unsupported, match=r"authzid is set, and only these mechanisms .* plain, oauthbearer, external"):
        choose(offered, wanted, MASTER, encrypted=True, allow_insecure=False)
