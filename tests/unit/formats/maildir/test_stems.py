from __future__ import annotations

import hashlib
import tracemalloc

from syncd.formats.maildir.stems import StemSet


def test_a_large_folder_is_small_in_memory():
    stems = (hashlib.sha256(b"%d" % number).hexdigest()[:24] for number in range(100_000))
    tracemalloc.start()
    try:
        known = StemSet()
        assert all(known.add(stem) for stem in stems)
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()
    assert not known.add(hashlib.sha256(b"0").hexdigest()[:24])
    assert not known.add(hashlib.sha256(b"99999").hexdigest()[:24])
