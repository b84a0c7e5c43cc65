"""Counters: the Beam counters of planning, and what they count."""

COUNTERS = "citymask.planning"
"""Namespace of the Beam counters of this step, which are named below."""

NEW = "new"
REPLACED = "replaced"
RETRIED = "retried"
REDONE = "redone"
"""Why an image is segmented: it has no row, has changed since its row was written, has failed
before, or its row is wrong or to be replaced."""

SKIPPED = "skipped"
GATED = "gated"
QUARANTINED = "quarantined"
REMOVED = "removed"
DUPLICATES = "given_twice"
UNITS = "units"
BEYOND = "beyond"
"""What became of the other images; work units; images beyond the limit of a run."""
