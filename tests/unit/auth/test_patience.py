"""Words that mean "later" (P27, S21)."""

from __future__ import annotations

import pytest

from syncd.auth.patience import says_later


@pytest.mark.parametrize(
    "text",
    [
        b"Too many login attempts, please try again later. gsmtp",
        b"Too many simultaneous connections (Failure)",
        b"Too many bad auth attempts",
        b"Temporary authentication failure",
        b"Account temporarily blocked",
        b"Request is throttled. Suggested Backoff Time: 1000 milliseconds",
        b"[LIMIT] Rate limit hit",
        b"Please try again later",
        b"Server Unavailable. 15",
        b"Server is busy",
        b"The service is too busy",
    ],
)
def test_p27_s21_words_that_mean_later(text: bytes):
    assert says_later(text)
    assert says_later(text.upper())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Username and Password not accepted. Learn more or try again",
        b"wrong password, please try again",
        b"password is incorrect, login frequency limited, or system is busy",
        b"your account has been locked",
    ],
)
def test_words_that_are_said_of_wrong_passwords_too_do_not_mean_later(text: bytes):
    assert not says_later(text)
