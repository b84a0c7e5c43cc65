"""Versions of files: what they say of the last change."""

from datetime import datetime, timezone

import pytest

from transforms import storage
from transforms.storage import FoundFile


@pytest.mark.parametrize(
    ("nanoseconds", "moment"),
    [
        (0, (1970, 1, 1)),
        (1_614_853_230_123_456_789, (2021, 3, 4, 10, 20, 30, 123_456)),
        (-1_000_000_000, (1969, 12, 31, 23, 59, 59)),
        (-(10**18), (1938, 4, 24, 22, 13, 20)),
        (32_503_680_000 * 10**9, (3000, 1, 1)),
        (2**63 - 1, (2262, 4, 11, 23, 47, 16, 854_775)),
        (10**9 * 2**62, None),
        (-(10**9) * 2**62, None),
        (253_402_300_800 * 10**9, None),
    ],
)
@pytest.mark.parametrize("generation", [0, 7])
def test_the_last_change_is_read_from_a_version(nanoseconds, moment, generation):
    changed = storage.modified_at(FoundFile("a.jpg", 5, nanoseconds, generation).version)
    assert changed == (moment and datetime(*moment, tzinfo=timezone.utc))


@pytest.mark.parametrize("version", ["", "5", "5-", "5-soon", storage.UNSEEN])
def test_of_what_was_not_seen_the_last_change_is_unknown(version):
    assert storage.modified_at(version) is None
