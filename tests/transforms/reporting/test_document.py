"""The document: how much of what was counted the page shows."""

import pickle

import numpy as np
import pyarrow as pa

from transforms.measures import aggregating
from transforms.reporting import document


def test_the_largest_groups_are_shown_and_equal_ones_by_name(derived, measures):
    keys = pa.array(["d", "b", "b", "a", "c"])
    sums = aggregating.sums_per_key(derived[:5], keys, measures.names)
    assert document.largest_groups(sums, most=3)["key"].to_pylist() == ["b", "a", "c"]


def test_sums_travel_without_what_they_were_cut_from(derived, measures):
    many = derived.take(pa.array(np.arange(100_000) % len(derived)))
    keys = pa.array([f"{n}" for n in range(len(many))])
    sums = aggregating.add_sums([aggregating.sums_per_key(many, keys, measures.names)] * 2)
    assert len(pickle.dumps(sums)) < 1.1 * sums.nbytes


def test_a_kind_of_failure_names_its_first_five_images():
    names = [f"{n}.jpg" for n in range(7)]
    failures = pa.table(
        {"image": names, "stage": ["read"] * 7, "error": ["E"] * 7, "message": names}
    )
    (kind,) = document.shown_failures(failures)
    assert (kind.count, kind.examples, kind.message) == (7, names[:5], "0.jpg")
