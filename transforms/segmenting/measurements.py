"""Measurements: the Beam metrics of the step that segments."""

from collections.abc import Callable

COUNTERS = "citymask.segmenting"
"""Namespace of the Beam metrics of this step: the counters and distributions named below."""

PIXELS = "citymask.pixels"
"""Namespace of the counters of pixels, a counter per class name."""

DONE = "done"
FAILED = "failed"
LEFT = "left"
PANORAMAS = "panoramas"
CONTRADICTIONS = "contradictions"
"""Photos that are said to be panoramas and are none; see `projections.recognise`."""

BYTES_IN = "bytes_in"
BYTES_OUT = "bytes_out"
BATCH_SIZE = "batch_size"
MICROSECONDS = "_microseconds"
"""Ending of the distributions of time: per image, for infer per batch, for commit per unit."""

Measure = Callable[[str, float], None]
