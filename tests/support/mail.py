"""Mail made from a seed: the same octets on every machine, nothing of anybody's.

Messages are in wire form (CRLF) unless a sample says otherwise. The generators stream: 10,000 realistic
messages are 608 MiB and take about two seconds. What is in them decides what an archive of them weighs, so
it is like real mail: attachments in base64 that hardly compress, and text made of phrases that come again, as in
a language. Of each octet of text zstd leaves 0.45 in a message alone and 0.25 in a frame of 1 MiB; of the bodies
in public corpora of real mail it leaves 0.33 to 0.47, and 0.20 (newsletters) to 0.29 (mailing lists).
"""

from __future__ import annotations

import base64
import functools
import itertools
import math
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

POOL_OCTETS = 8 << 20  # repeats lie further apart than any window of zstd level 3 (2 MiB) reaches
SMALLEST_OCTETS = 900  # headers and a line
MEDIAN_OCTETS = 8 << 10
SPREAD = 2.0  # sigma of the log-normal: with the large ones below the mean is about 60 KiB
LARGEST_OCTETS = 4 << 20
TEXT_SHARE_PERCENT = 45  # of a message with an attachment
GIANTS_EVERY = 2_000  # five of 5 to 10 MiB in 10,000
SMALL_OCTETS = 2 << 10

WORDS = (
    "the of and to in a is that for it as was with be by on not he this are at from have or an they which one you were "
    "all we can her has there been if more when will would who so no message server meeting report please attached "
    "invoice project thanks regards week question answer account order delivery team weather budget contract Grüße "
    "Besprechung für über Straße naïve café update schedule agenda minutes version release problem solution customer"
).split()
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za schl ing tion ment able er est".split()
RARE_WORDS = 4_000
PHRASES = 20_000
PHRASE_SHARE = 0.8  # of what is said is a phrase, the rest is words as they come
WORDS_IN_LINE = 11
BASE64_OCTETS = 57 * 1_000  # made at a time, before encoding: whole lines
PEOPLE = "anna bert chloe dmitri emma farid grete hiro ines jonas kenji lena marta nils olga pavel".split()
SUBJECTS = (
    "Minutes of the meeting",
    "Your invoice",
    "Re: the plan for spring",
    "Fwd: photos",
    "Newsletter",
    "Question",
)


class _Material:
    """Lines, made when somebody comes to them: most tests want a few messages, and 8 MiB take a second to make."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._more = lines
        self._made = bytearray()

    def first(self, octets: int) -> bytearray:
        """The lines as far as they are made: so many octets at least, unless there are no more."""
        while len(self._made) < octets and (line := next(self._more, None)) is not None:
            self._made += line
        return self._made


class _Pool:
    """Lines of material, handed out in order and over again."""

    def __init__(self, lines: _Material) -> None:
        self._material = lines
        self._at = 0

    def take(self, octets: int) -> bytes:
        """About `octets` octets of whole lines."""
        parts: list[bytes] = []
        while octets > 0:
            lines = self._material.first(self._at + octets)
            end = lines.rfind(b"\n", self._at, self._at + octets) + 1
            if end <= self._at:
                end = lines.find(b"\n", self._at) + 1
            parts.append(bytes(lines[self._at : end]))
            octets -= end - self._at
            self._at = end if end < len(self._material.first(end + 1)) else 0
            if octets < 100:  # a line more or less does not matter
                break
        return b"".join(parts)


def _zipf(choices: list[str], rng: random.Random) -> Iterator[str]:
    """Endlessly one of `choices`, the first ones most often, as in a language."""
    cumulated = list(itertools.accumulate(1 / (rank + 4) for rank in range(len(choices))))
    while True:
        yield from rng.choices(choices, cum_weights=cumulated, k=10_000)


@functools.cache
def _language() -> tuple[list[str], list[str]]:
    """Words and phrases, the frequent ones first."""
    rng = random.Random("language")
    words = WORDS + ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(RARE_WORDS)]
    said = _zipf(words, rng)
    return words, [" ".join(itertools.islice(said, rng.randint(2, 7))) for _ in range(PHRASES)]


@functools.lru_cache(maxsize=16)
def _text(seed: int) -> _Material:
    """Lines of text, CRLF: about 8 MiB."""
    rng = random.Random(f"material {seed}")
    said, phrases = (_zipf(choices, rng) for choices in _language())

    def lines() -> Iterator[bytes]:
        words: list[str] = []
        for _ in range(POOL_OCTETS // 22):
            words += next(phrases).split() if rng.random() < PHRASE_SHARE else itertools.islice(said, 3)
            while len(words) > WORDS_IN_LINE:
                yield " ".join(words[:WORDS_IN_LINE]).encode() + b"\r\n"
                del words[:WORDS_IN_LINE]
        yield " ".join(words).encode() + b"\r\n"

    return _Material(lines())


@functools.lru_cache(maxsize=4)
def _base64(seed: int) -> _Material:
    """Lines of base64, CRLF: 8 MiB."""
    rng = random.Random(f"attachments {seed}")
    whole = POOL_OCTETS * 3 // 4
    pieces = (rng.randbytes(min(BASE64_OCTETS, whole - at)) for at in range(0, whole, BASE64_OCTETS))
    return _Material(base64.encodebytes(piece).replace(b"\n", b"\r\n") for piece in pieces)


def _header(rng: random.Random, number: int, content_type: str) -> bytes:
    sender, receiver = rng.choice(PEOPLE), rng.choice(PEOPLE)
    token = f"{rng.getrandbits(64):016x}"
    when = f"{1 + number % 28:02} Mar 2026 {number % 24:02}:{number % 60:02}:{number // 60 % 60:02} +0100"
    lines = (
        f"Return-Path: <{sender}@example.net>",
        f"Received: from mx{number % 7}.example.net (mx{number % 7}.example.net [192.0.2.{number % 250}])",
        f"\tby mail.example.org (Postfix) with ESMTPS id {token[:10].upper()}",
        f"\tfor <{receiver}@example.org>; {when}",
        f"Date: {when}",
        f"From: {sender.title()} <{sender}@example.net>",
        f"To: {receiver.title()} <{receiver}@example.org>",
        f"Subject: {rng.choice(SUBJECTS)} ({number})",
        f"Message-ID: <{token}.{number}@example.net>",
        "MIME-Version: 1.0",
        f"Content-Type: {content_type}",
        "Content-Transfer-Encoding: 8bit",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _multipart(rng: random.Random, number: int, octets: int, text: _Pool, encoded: _Pool) -> bytes:
    boundary = f"=_{rng.getrandbits(80):020x}"
    edge = b"--" + boundary.encode()
    name = rng.choice(("report.pdf", "photo.jpg", "table.xlsx", "scan.png"))
    header = _header(rng, number, f'multipart/mixed; boundary="{boundary}"')
    body = text.take(octets * TEXT_SHARE_PERCENT // 100)
    part = (
        f'\r\nContent-Type: application/octet-stream; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    ).encode()
    attachment = encoded.take(octets - len(header) - len(body) - len(part) - 3 * len(edge) - 70)
    plain = b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    return b"".join((header, edge, plain, body, edge, part, attachment, edge, b"--\r\n"))


def _sizes(n: int, rng: random.Random) -> Iterator[int]:
    for number in range(n):
        if number % GIANTS_EVERY == GIANTS_EVERY // 2:
            yield rng.randrange(5 << 20, 10 << 20)
        else:
            drawn = rng.lognormvariate(math.log(MEDIAN_OCTETS), SPREAD)
            yield min(max(SMALLEST_OCTETS, int(drawn)), LARGEST_OCTETS)


def realistic(n: int, seed: int) -> Iterator[bytes]:
    """`n` messages of log-normal size, median about 8 KiB, mean about 60 KiB; every 2,000th has 5 to 10 MiB."""
    rng = random.Random(f"realistic {seed}")
    text, encoded = _Pool(_text(seed)), _Pool(_base64(seed))
    for number, octets in enumerate(_sizes(n, rng)):
        if octets < MEDIAN_OCTETS // 2 or (octets < 4 * MEDIAN_OCTETS and number % 3):
            header = _header(rng, number, "text/plain; charset=utf-8")
            yield header + text.take(max(80, octets - len(header)))
        else:
            yield _multipart(rng, number, octets, text, encoded)


def small(n: int, seed: int, octets: int = SMALL_OCTETS) -> Iterator[bytes]:
    """`n` text messages of about 2 KiB."""
    rng = random.Random(f"small {seed}")
    text = _Pool(_text(seed))
    for number in range(n):
        header = _header(rng, number, "text/plain; charset=utf-8")
        yield header + text.take(octets - len(header))


def huge(octets: int, seed: int) -> Iterator[bytes]:
    """One message of about `octets` octets, in pieces."""
    rng = random.Random(f"huge {seed}")
    encoded = _Pool(_base64(seed))
    yield _header(rng, 0, "application/octet-stream")
    while octets > 0:
        piece = encoded.take(min(octets, POOL_OCTETS // 8))
        octets -= max(len(piece), 100)
        yield piece


def nasty() -> dict[str, bytes]:
    """Messages that break careless programs, by what is wrong with them. Line ends are part of the trouble."""
    head = b"From: a@example.net\r\nSubject: nasty\r\n\r\n"
    return {
        "plain": head + b"nothing wrong\r\n",
        "empty": b"",
        "one octet": b"x",
        "only a line end": b"\r\n",
        "only an empty line, LF": b"\n",
        "header only": b"Subject: no body, no empty line\r\n",
        "header and empty line": head,
        "no final newline": head + b"the last line is not ended",
        "ends in CR": head + b"the last octet is a CR\r",
        "NUL": head + b"a NUL \0 in the text\r\n",
        "NUL in header": b"Subject: a\0b\r\n\r\ntext\r\n",
        "bare CR": head + b"a bare \r in a line\r\n",
        "bare LF": head + b"a bare LF\nin CRLF mail\r\n",
        "LF only": head.replace(b"\r", b"") + b"line one\nline two\n",
        "CR CR LF": head + b"one CR too many\r\r\n",
        "equal counts, not paired": head + b"a\rb\nc\r\n",
        "From lines": head + b"From here it goes on\r\n>From quoted\r\n>>From twice\r\n From not\r\nFrom\r\n",
        "begins with From": b"From me Mon Jan  1 00:00:00 2026\r\nSubject: x\r\n\r\ntext\r\n",
        "begins with >From": b">From me\r\nSubject: x\r\n\r\ntext\r\n",
        "From after bare LF": head + b"a\nFrom b\r\n",
        "From after bare CR": head + b"a\rFrom b\r\n",
        "ends in From": head + b"From ",
        "dots": head + b".\r\n..\r\n...\r\n.a\r\na.\r\n\r\n.\r\n",
        "begins with a dot": b".\r\n.x\r\n",
        "dots without line end": head + b"\r\n.",
        "long line": head + b"x" * 100_000 + b"\r\n",
        "long line of dots": head + b"." * 100_000 + b"\r\n",
        "long header": b"Subject: " + b"y" * 100_000 + b"\r\n\r\ntext\r\n",
        "8 bit": b"Subject: \xff\xfe\xe4 raw\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
        "no header": b"\r\njust text\r\n",
        "many empty lines": head + b"\r\n" * 5_000,
        "zstd magic": head + b"\x28\xb5\x2f\xfd\x50\x2a\x4d\x18\r\n",
    }


SAMPLES = Path(__file__).parent.parent / "samples"


def samples() -> dict[str, bytes]:
    """The messages that the project ships, by file name, in wire form (the files have LF)."""
    return {file.name: file.read_bytes().replace(b"\n", b"\r\n") for file in sorted(SAMPLES.glob("*.eml"))}


def corpus_files() -> list[Path]:
    """Tarballs of real mail, if somebody put some here: `SYNCD_CORPUS`, or a folder beside the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "corpus"
    return sorted(Path(os.environ.get("SYNCD_CORPUS", beside)).glob("*.tar.*"))


def corpus() -> Iterator[bytes]:
    """The real messages as their files have them, nothing converted; none when there are no tarballs."""
    for path in corpus_files():
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    yield file.read()
