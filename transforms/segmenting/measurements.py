"""Measurements: the Beam metrics of the segmenting step."""

from collections.abc import Callable

COUNTERS = "citymask.segmenting"
"""Namespace of the Beam metrics of this step: the counters and distributions named below."""

PIXELS = "citymask.pixels"
"""Namespace of the pixel counters, one per class name."""

PRECISIONS = "citymask.precisions"
"""Namespace of the counters of photos done, one per precision that the network computed in."""

DONE = "done"
FAILED = "failed"
UNREADABLE = "unreadable"
"""Photos, among those that failed, that could not be read for reasons of storage."""

LEFT = "left"
PANORAMAS = "panoramas"
CONTRADICTIONS = "contradictions"
"""Photos that are claimed to be panoramas but are not; see `projections.recognise`."""

FURTHER = "further"
"""Photos in files of several, besides the one that counts."""

BYTES_IN = "bytes_in"
BYTES_OUT = "bytes_out"
BATCH_SIZE = "batch_size"
MICROSECONDS = "_microseconds"
"""Suffix of the time distributions: per image; for infer per batch; for commit per unit."""

Measure = Callable[[str, float], None]
