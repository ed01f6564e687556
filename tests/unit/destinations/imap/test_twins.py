"""Mailboxes of a job whose names differ in nothing but case."""

from __future__ import annotations

from syncd.destinations.imap.twins import Twins


def test_only_names_that_differ_in_case_are_twins() -> None:
    twins = Twins()
    for path in (("a", "B"), ("a", "b"), ("a", "b"), ("c",)):
        twins.note("/".join(path), path)
    assert (twins.other("a/B"), twins.other("a/b"), twins.other("c"), twins.other("d")) == (
        ("a", "b"),
        ("a", "B"),
        (),
        (),
    )
