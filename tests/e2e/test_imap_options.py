r"""What a job does with messages marked \Deleted, and with Gmail's labels: between two scripted servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.verify.comparison import UNMARKED
from syncd.services.verify.examiner import MARKED
from syncd.services.verify.service import Verification
from syncd.services.verify.values import Status
from tests.e2e.test_imap_migration import Bench, mail
from tests.fakes.imap import EXTENDED, GMAIL, USERNAME, FakeImap

Between = Callable[[str], Bench]


@pytest.fixture
def old() -> Iterator[FakeImap]:
    with FakeImap() as server:
        yield server


@pytest.fixture
def new() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.inside = (*EXTENDED, "MULTIAPPEND")
        yield server


@pytest.fixture
def between(tmp_path: Path, old: FakeImap, new: FakeImap) -> Between:
    """Makes, or configures anew, a job with these lines."""
    here, there = ((peer.host, peer.port, USERNAME) for peer in (old, new))
    return lambda lines: Bench(tmp_path, here, there, job=lines)


def run(bench: Bench) -> None:
    report = bench.run()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])


def held(server: FakeImap) -> dict[str, list[tuple[bytes, list[bytes]]]]:
    """Mailbox → messages and their flags."""
    return {
        name.decode(): sorted((one.octets, one.flags) for one in box.mail)
        for name, box in server.boxes.items()
        if box.mail
    }


def places(server: FakeImap) -> dict[str, list[bytes]]:
    return {name: [octets for octets, _ in found] for name, found in held(server).items()}


# --- \Deleted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "second"),
    [
        ("", [(mail(2), [b"\\Seen"])]),
        ('deleted = "copy"\n', [(mail(2), [b"\\Seen"])]),
        ('deleted = "keep-flag"\n', [(mail(2), [b"\\Deleted", b"\\Seen"])]),
        ('deleted = "skip"\n', []),
    ],
)
def test_i150_messages_marked_as_deleted(
    between: Between, old: FakeImap, new: FakeImap, lines: str, second: list[tuple[bytes, list[bytes]]]
) -> None:
    old.box("INBOX").add(mail(1))
    old.box("INBOX").add(mail(2), flags=[b"\\Seen", b"\\Deleted"])
    old.box("INBOX").add(mail(3), flags=[b"\\Seen"])
    bench = between(lines)
    run(bench)
    assert held(new) == {"INBOX": [(mail(1), []), *second, (mail(3), [b"\\Seen"])]}
    before = len(old.commands)
    run(bench)
    assert "EXAMINE" not in old.verbs()[before:], "an unchanged mailbox is not opened"


def test_i150_a_mark_that_is_left_out_is_told_and_verified(between: Between, old: FakeImap) -> None:
    old.box("INBOX").add(mail(1))
    old.box("INBOX").add(mail(2), flags=[b"\\Seen", b"\\Deleted"])
    bench = between("")
    events: list[object] = []
    RunsByHand(bench.loaded(), ["move"], RunOptions(), events.append).execute()
    assert "marked as deleted at the source: 1; they were copied without the mark" in str(events)
    with Verification(bench.loaded(), "move") as verification:
        report = verification.execute()
        [entry] = report.entries()
        assert (entry.uid, entry.status, report.differences) == ("2", Status.ALTERED, 0)
        assert entry.reason == UNMARKED


def test_i150_a_skipped_message_that_is_restored_is_copied(between: Between, old: FakeImap, new: FakeImap) -> None:
    """And one that is marked after it was copied is not copied again when its mark goes."""
    box = old.box("INBOX")
    box.add(mail(1))
    box.add(mail(2), flags=[b"\\Deleted"])
    bench = between('deleted = "skip"\n')
    run(bench)
    box.mail[0].flags, box.mail[1].flags, box.modseq = [b"\\Deleted"], [], 9
    run(bench)
    assert places(new) == {"INBOX": [mail(1), mail(2)]}
    box.mail[0].flags, box.modseq = [], 10
    run(bench)
    run(bench)
    assert places(new) == {"INBOX": [mail(1), mail(2)]}


def test_what_is_skipped_is_accounted_for(between: Between, old: FakeImap) -> None:
    """Another job that reads the account has it in the ledger, or not."""
    old.box("INBOX").add(mail(1))
    old.box("INBOX").add(mail(2), flags=[b"\\Deleted"])
    bench = between('deleted = "skip"\n')
    for other in (False, True):
        if other:
            bench.run("keep")
        run(bench)
        with Verification(bench.loaded(), "move") as verification:
            report = verification.execute()
            [entry] = report.entries()
            assert (entry.uid, entry.status, report.differences) == ("2", Status.SKIPPED, 0)
            assert entry.reason == MARKED


def test_a_changed_rule_lists_mailboxes_again(between: Between, old: FakeImap, new: FakeImap) -> None:
    old.box("INBOX").add(mail(1))
    old.box("INBOX").add(mail(2), flags=[b"\\Deleted"])
    run(between('deleted = "skip"\n'))
    assert places(new) == {"INBOX": [mail(1)]}
    run(between(""))
    assert places(new) == {"INBOX": [mail(1), mail(2)]}


def test_what_is_skipped_is_not_removed(between: Between, old: FakeImap) -> None:
    old.box("INBOX").add(mail(1), mail(2))
    old.box("INBOX").add(mail(3), flags=[b"\\Deleted"])
    run(between('deleted = "skip"\nmode = "move"\nconfirm_removal = true\n'))
    assert places(old) == {"INBOX": [mail(3)]}


# --- Gmail -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def gmail(old: FakeImap) -> FakeImap:
    """Six messages: with one label, with two, with none, with one that is not shown in IMAP, sent, only important."""
    labels: dict[int, list[bytes]] = {
        1: [b"Work/2024"],
        2: [b"\\Inbox", b"Work/2024", b"Caf&AOk-", b"\\Important"],
        3: [],
        4: [b"Hidden"],
        5: [b"\\Sent", b"Caf&AOk-"],
        6: [b"\\Important", b"\\Starred"],
    }
    old.inside = GMAIL
    old.box("[Gmail]", attributes=[b"\\Noselect"])
    for name, use in (("All Mail", b"\\All"), ("Sent Mail", b"\\Sent"), ("Starred", b"\\Flagged"), ("Bin", b"\\Trash")):
        old.box(f"[Gmail]/{name}", attributes=[use])
    shown = {b"\\Inbox": b"INBOX", b"\\Sent": b"[Gmail]/Sent Mail", b"\\Starred": b"[Gmail]/Starred"}
    for number, of_message in labels.items():
        for place in [b"[Gmail]/All Mail", *(shown.get(it, it) for it in of_message)]:
            if place not in {b"Hidden", b"\\Important"}:
                old.box(place).add(mail(number))
                old.box(place).mail[-1].labels = of_message
    return old


def test_i164_the_first_label_decides(between: Between, gmail: FakeImap, new: FakeImap) -> None:
    assert gmail.boxes
    run(between('labels = "first"\n'))
    assert places(new) == {
        "Work/2024": [mail(1)],
        "Caf&AOk-": [mail(2), mail(5)],
        "Archive": [mail(3), mail(6)],
        "Hidden": [mail(4)],
    }


def test_i164_a_mailbox_for_each_label(between: Between, gmail: FakeImap, new: FakeImap) -> None:
    bench = between('labels = "each"\n')
    run(bench)
    expected = {
        "INBOX": [mail(2)],
        "Work/2024": [mail(1), mail(2)],
        "Caf&AOk-": [mail(2), mail(5)],
        "[Gmail]/Sent Mail": [mail(5)],
        "Archive": [mail(3), mail(6)],
        "Hidden": [mail(4)],
    }
    assert places(new) == expected
    gmail.box("Caf&AOk-").add(mail(1))  # another label
    run(bench)
    expected["Caf&AOk-"].insert(0, mail(1))
    assert places(new) == expected
    before = len(gmail.commands)
    run(bench)
    assert "EXAMINE" not in gmail.verbs()[before:]


# --- several jobs on an account --------------------------------------------------------------------------------------


def test_a_job_holds_removals_back_only_in_the_mailboxes_that_it_reads(between: Between, old: FakeImap) -> None:
    for name in ("INBOX", "Sent", "Work"):
        old.box(name).add(mail(1))
    bench = between(
        'mode = "move"\nconfirm_removal = true\n[jobs.other]\nsource = "old"\ndestinations = ["home"]\n'
        'mailboxes = { include = ["Sent", "Work"] }\n'
    )
    run(bench)
    assert places(old) == {"Sent": [mail(1)], "Work": [mail(1)]}
    assert bench.run("other").exit_code is ExitCode.DONE
    run(bench)
    assert places(old) == {}


def test_what_is_removed_from_all_mail_waits_for_every_job(between: Between, gmail: FakeImap) -> None:
    """It would go from the mailboxes that the other job reads as well."""
    gmail.inside = (*GMAIL, "MOVE")
    kept = held(gmail)
    bench = between(
        'mode = "move"\nconfirm_removal = true\n[jobs.other]\nsource = "old"\ndestinations = ["home"]\n'
        'mailboxes = { include = ["INBOX"] }\n'
    )
    run(bench)
    assert held(gmail) == kept
    assert "UID MOVE" not in gmail.verbs()
