"""Counters: the Beam counters of planning, and what they count."""

COUNTERS = "citymask.planning"
"""Namespace of the Beam counters of this step, which are named below."""

NEW = "new"
REPLACED = "replaced"
RETRIED = "retried"
REDONE = "redone"
"""Why an image is to do: it has no row, has changed since its row, has failed before, or its row is
not to be trusted or not wanted any more."""

SKIPPED = "skipped"
GATED = "gated"
QUARANTINED = "quarantined"
REMOVED = "removed"
DUPLICATES = "given_twice"
UNITS = "units"
BEYOND = "beyond"
"""What became of the others; and work units, and images beyond the limit of a run."""
