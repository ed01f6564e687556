from __future__ import annotations

import email
import email.policy
import hashlib
import itertools
import statistics
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.support import mail

Generate = Callable[[int, int], Iterator[bytes]]


def digest(messages: list[bytes]) -> str:
    return hashlib.sha256(b"".join(messages)).hexdigest()


@pytest.mark.parametrize("generate", [mail.realistic, mail.small])
def test_same_seed_same_octets(generate: Generate) -> None:
    first = list(generate(50, 7))
    assert digest(first) == digest(list(generate(50, 7)))
    assert digest(first) != digest(list(generate(50, 8)))
    assert len(set(first)) == 50


@pytest.mark.parametrize("generate", [mail.realistic, mail.small])
def test_messages_are_crlf_and_well_formed(generate: Generate) -> None:
    for message in generate(60, 5):
        assert message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n")
        assert message.endswith(b"\r\n")
        assert max(map(len, message.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1
        parsed = email.message_from_bytes(message, policy=email.policy.default)
        assert all(not part.defects for part in parsed.walk())
        assert parsed["Message-ID"]


def test_sizes_are_like_real_mail() -> None:
    sizes = [len(message) for message in mail.realistic(2_000, seed=1)]
    assert 7_000 < statistics.median(sizes) < 10_000
    assert 40_000 < statistics.mean(sizes) < 80_000
    assert sum(5 << 20 <= size <= 11 << 20 for size in sizes) == 1


def test_small_messages_have_two_kibibytes() -> None:
    assert all(1_900 <= len(message) <= 2_048 for message in mail.small(200, seed=1))


def test_a_stream_is_lazy() -> None:
    assert len(list(itertools.islice(mail.realistic(10**9, seed=1), 3))) == 3


def test_huge_has_about_the_octets_asked_for() -> None:
    octets = sum(map(len, mail.huge(5 << 20, seed=1)))
    assert abs(octets - (5 << 20)) < 4_096


def test_samples_are_there_and_parse() -> None:
    samples = mail.samples()
    assert len(samples) >= 8
    for name, octets in samples.items():
        assert b"\r\r" not in octets, name
        assert isinstance(email.message_from_bytes(octets, policy=email.policy.default), EmailMessage)


def test_corpus_is_empty_without_tarballs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNCD_CORPUS", str(tmp_path))
    assert list(mail.corpus()) == []
