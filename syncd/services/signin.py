"""Signing in once to see that it works: nothing is listed, fetched or removed."""

from __future__ import annotations

from syncd.sources.base import Source, SourceInfo, Totals


def try_out(source: Source) -> tuple[SourceInfo, Totals]:
    """Sign in, ask how much there is, say goodbye. Raises what `source.connect` raises; `source.cancel` ends it."""
    session = source.connect()
    try:
        totals = session.totals()
        session.finish()
    finally:
        session.close()
    return session.info, totals
