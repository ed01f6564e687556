"""Findings of `syncd doctor`, as values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from syncd.engine.exit_codes import ExitCode, gravest


class Finding(NamedTuple):
    """Something to know. `wrong`: it should be mended. `code`: the exit code that it means, if it is wrong."""

    text: str  # what, and where
    advice: str = ""  # what to do
    wrong: bool = True
    code: ExitCode = ExitCode.FAILED


@dataclass(slots=True)
class Check:
    """A subject that was looked at. `facts` are as they should be, `findings` are not, or worth knowing."""

    name: str
    facts: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Returns whether nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """Returns plain values."""
        findings = [{"text": it.text, "advice": it.advice, "wrong": it.wrong} for it in self.findings]
        return {"name": self.name, "ok": self.is_well, "facts": self.facts, "findings": findings}


def verdict(checks: Collection[Check]) -> ExitCode:
    """Returns the exit code that the findings mean."""
    return gravest(finding.code for check in checks for finding in check.findings if finding.wrong)
