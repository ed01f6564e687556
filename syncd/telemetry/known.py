"""Secrets that this process knows, blanked in every text that leaves it as a log line or a notice (CWE-532).

Every `Secret` that is made is learnt by itself (`secret.watch`). Addresses that hold a password or a token, such as
those of the database, the broker and a webhook, are learnt by `learn_url`. A secret is found as it is, in base64 (also
inside a longer text, as in SASL PLAIN), percent-encoded, in hexadecimal, and as Python and JSON escape it; in capitals,
and also where only its first 8 octets are there.

A text is looked through once, whatever the number of secrets: each of its places is looked up among the beginnings of
all forms. The MAX_SECRETS that were learnt last are known, so access tokens that change each hour do not add up.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from syncd.auth.redaction import Redaction
from syncd.secret import Secret

MAX_SECRETS: Final = 2_000  # some 5 MiB; a worker with 64 threads signs in to as many accounts in minutes
_HEAD: Final = 8  # octets, as `auth.redaction` takes a beginning for the whole
_LONG_WORD: Final = 16  # letters: a part of an address that is longer is rather a token than a word
_SHORTEST: Final = 3  # characters; a shorter word is in every other line
_IN_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@\"']*):[^\s\"']+@")  # a password before a host
_IS_URL: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://")
_SURROGATES: Final = "surrogateescape"


class Known:
    """A set of secrets. Any thread may use it."""

    def __init__(self, limit: int = MAX_SECRETS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._secrets: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()  # secret → its forms, the oldest first
        self._by_head: dict[bytes, tuple[bytes, ...]] = {}  # beginning in small letters → forms, once for each secret
        self._lengths: Counter[int] = Counter()  # of beginnings

    def learn(self, secret: Secret | str | bytes) -> None:
        """Blank a secret from now on. One of less than 3 characters is not learnt; of an address, only its secrets."""
        octets = _octets(secret)
        if _IS_URL.match(octets):
            self.learn_url(octets.decode("utf-8", _SURROGATES))
            return
        with self._lock:
            if octets in self._secrets:
                self._secrets.move_to_end(octets)
                return
            if len(octets) < _SHORTEST:
                return
            self._secrets[octets] = forms = tuple({form.lower() for form in _forms(octets)})
            for form in forms:
                self._add(form)
            if len(self._secrets) > self._limit:
                for form in self._secrets.popitem(last=False)[1]:
                    self._forget(form)

    def learn_url(self, url: str) -> None:
        """Blank the password of an address, and the parts of path and query that may be secrets of a web hook."""
        try:
            parts = urlsplit(url)
        except ValueError:  # it is no address after all: brackets that do not match
            self.learn(url.partition("://")[2])
            return
        if parts.password:
            self.learn(unquote(parts.password))
            self.learn(parts.password)
        if parts.scheme in {"http", "https"}:
            for word in (*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))):
                if len(word) >= (_LONG_WORD if word.isalpha() else _HEAD):  # "services" is no secret
                    self.learn(word)
        for name, value in parse_qsl(parts.query):
            if name.lower() in {"password", "passwd", "token", "key", "secret"}:
                self.learn(value)

    def blank(self, text: str) -> str:
        """Returns a text without the secrets, and without the passwords of addresses that nobody learnt."""
        if "://" in text:
            text = _IN_URL.sub(r"\1:…@", text)
        octets = text.encode("utf-8", _SURROGATES if not _has_other_surrogates(text) else "backslashreplace")
        found = self._find(octets.lower())
        if not found:
            return text
        redaction = Redaction()
        redaction.add(*found)
        return redaction.blank(octets).decode("utf-8", "backslashreplace")

    def _find(self, lowered: bytes) -> list[bytes]:
        """Returns the forms of which a beginning is in a text."""
        with self._lock:
            lengths = list(self._lengths)
            found: list[bytes] = []
            for length in lengths:
                for start in range(len(lowered) - length + 1):
                    forms = self._by_head.get(lowered[start : start + length])
                    if forms:
                        found.extend(forms)
        return found

    def _add(self, form: bytes) -> None:
        head = form[:_HEAD]
        if head not in self._by_head:
            self._lengths[len(head)] += 1
        self._by_head[head] = (*self._by_head.get(head, ()), form)

    def _forget(self, form: bytes) -> None:
        head = form[:_HEAD]
        forms = list(self._by_head.pop(head))
        forms.remove(form)
        if forms:
            self._by_head[head] = tuple(forms)
            return
        self._lengths[len(head)] -= 1
        if not self._lengths[len(head)]:
            del self._lengths[len(head)]


KNOWN: Final = Known()  # one for the process, as its log is: a secret of any job may turn up in any line


def _octets(secret: Secret | str | bytes) -> bytes:
    if isinstance(secret, bytes):
        return secret
    return secret.octets() if isinstance(secret, Secret) else secret.encode("utf-8", _SURROGATES)


def _forms(octets: bytes) -> Iterator[bytes]:
    """Yields the texts in which a secret may turn up."""
    yield octets
    for form in (base64.b64encode(octets), base64.urlsafe_b64encode(octets)):
        yield form.rstrip(b"=") if len(form.rstrip(b"=")) >= _SHORTEST else form
    yield from _inside_of_base64(octets)
    yield octets.hex().encode()
    yield quote(octets, safe="").encode()
    yield quote_plus(octets).encode()
    text = octets.decode("utf-8", _SURROGATES)
    for escaped in (repr(text), repr(octets).removeprefix("b"), json.dumps(text), json.dumps(text, ensure_ascii=False)):
        yield escaped[1:-1].encode("utf-8", "backslashreplace")


def _inside_of_base64(octets: bytes) -> Iterator[bytes]:
    """Yields the inner part of a secret's base64 behind 1 or 2 octets more than a multiple of 3."""
    for before in (1, 2):
        whole = base64.b64encode(bytes(before) + octets)
        inner = whole[-(-before * 8 // 6) : (before + len(octets)) * 8 // 6]
        if len(inner) >= _HEAD:
            yield inner


def _has_other_surrogates(text: str) -> bool:
    """Returns whether a text has lone surrogates that stand for no octet (PEP 383)."""
    return any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in text)
