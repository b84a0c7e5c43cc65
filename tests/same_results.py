"""Whether two output folders, as `pipeline.conftest.Output` reads them, have the same results."""

import pandas as pd

OF_PLACE = ["uri", "version", "run_id"]
"""Columns that say where and when; all others are of the photo."""


def assert_same_masks_and_rows(found, expected) -> None:
    """Masks byte for byte, and rows but for where and when."""
    assert found.masks == expected.masks
    for mask in expected.masks:
        assert (found.path / mask).read_bytes() == (expected.path / mask).read_bytes()
    rows = (output.rows.drop(columns=OF_PLACE).sort_index(axis=1) for output in (found, expected))
    pd.testing.assert_frame_equal(*rows)


def assert_same_results(found, expected) -> None:
    """The same, and of which images failed, and the summary."""
    assert_same_masks_and_rows(found, expected)
    failure = ["image", "stage", "error", "attempts"]
    failures = (output.failures.reindex(columns=failure) for output in (found, expected))
    pd.testing.assert_frame_equal(*failures)
    for name in ("summary.json", "summary.csv"):
        assert (found.path / name).read_bytes() == (expected.path / name).read_bytes()
