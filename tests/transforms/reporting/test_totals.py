"""Totals: distributions of shares and ratios, and parts that add up."""

import numpy as np
import pyarrow as pa
import pytest

from transforms.reporting.totals import add_totals, distributions, totals_of


@pytest.mark.parametrize("seed", range(4))
def test_totals_of_parts_add_up_to_those_of_the_whole(derived, split, measures, seed):
    whole = totals_of(derived, measures)
    found = add_totals((totals_of(part, measures) for part in split(derived, seed)), measures)
    for name in ("pixels", "images", "counts", "precisions", "compared"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name


def test_photos_that_are_unlike_are_counted_where_that_is_known(derived, measures):
    flags = derived["unlike_training"].to_pylist()
    found = totals_of(derived, measures)
    assert found.compared.tolist() == [flags.count(False), flags.count(True)]
    assert found.unlike == flags.count(True) > 0
    unknown = derived.filter(pa.array([flag is None for flag in flags]))
    assert totals_of(unknown, measures).unlike is None


def test_a_ratio_without_an_upper_end_has_doubling_bins_up_to_its_largest(derived, measures):
    found = distributions(totals_of(derived, measures), measures)
    enclosure = found[measures.names.index("enclosure")]
    values = [value for value in derived["enclosure"].to_pylist() if value is not None]
    assert enclosure.edges[:5] == [0, 0.125, 0.25, 0.5, 1]
    assert enclosure.edges[-2] <= max(values) <= enclosure.edges[-1]
    assert sum(enclosure.counts) == len(values) < len(derived)


def test_of_nothing_all_counts_are_zero(measures):
    found = distributions(add_totals([], measures), measures)
    assert {sum(distribution.counts) for distribution in found} == {0}
    assert all(len(d.edges) == len(d.counts) + 1 >= 2 for d in found)
