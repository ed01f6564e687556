"""Decides before a message is sent whether it fits: by the size that a mailbox takes, its quotas, an earlier refusal.

APPENDLIMIT   of the server (capability) or of the mailbox (STATUS); RFC 7889. 0 and nonsense are no limit (I159)
quotas        of the mailbox's roots (GETQUOTAROOT, RFC 9208): asked when a mailbox is first looked at. What is sent
              is subtracted; where a message does not fit by that, they are asked again, once for each batch
a refusal     a message with as many octets as one that the server said is over quota is not tried in this run
"""

from __future__ import annotations

from dataclasses import dataclass, field

from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.quotas import Left
from syncd.errors import Throttled


@dataclass(slots=True)
class Fit:
    """The messages of one batch. `full`: hardly a message fits any more. `enough`: why nothing more is sent for now."""

    account: ImapAccount
    full: bool = False
    enough: Throttled | None = None
    _asked: set[bytes] = field(default_factory=set)  # names of mailboxes
    _planned: list[tuple[Target, int]] = field(default_factory=list)

    def reason(self, target: Target, octets: int) -> str:
        """Returns why a message does not fit into a mailbox; counts one that fits, and returns an empty text."""
        if target.full_at is not None and octets >= target.full_at:
            return f"it has {octets:,} octets, and the server said that {target.full_at:,} are over the quota"
        if self._misfit(target, octets) is not None and target.name not in self._asked:
            self._asked.add(target.name)
            take_quotas(self.account, target)
            for other, planned in self._planned:
                self._take(other, planned)
        misfit = self._misfit(target, octets)
        if misfit is None:
            self._planned.append((target, octets))
            self._take(target, octets)
            return ""
        self.full |= misfit.is_full and not target.has_own_quota
        return f"it has {octets:,} octets, and the mailbox's quota leaves {misfit}"

    def _misfit(self, target: Target, octets: int) -> Left | None:
        left = [self.account.left[root] for root in target.roots]
        return next((one for one in left if not one.fits(octets)), None)

    def _take(self, target: Target, octets: int) -> None:
        for root in target.roots:
            self.account.left[root].take(octets)


def take_quotas(account: ImapAccount, target: Target) -> None:
    """Ask for the quotas of a mailbox; one flight with what is queued."""
    told = account.client().quotas(target.name).wait()
    account.left.update({root: Left.of(quota) for root, quota in told.items()})
    target.roots = tuple(told)
