"""Beam transforms that segment image archives, and the plain functions they wrap.

The transforms below are public: put them into a pipeline of your own.
"""

from transforms.dates import DateRange, OnDates
from transforms.evaluating import EvaluateMasks
from transforms.gating import GateImages
from transforms.listing import ListImages
from transforms.planning import DropDone, GroupIntoUnits
from transforms.segmenting import SegmentArchive, SegmentOptions, SegmentUnit
from transforms.summarising import CountCommitted, RemoveSuperseded, SummarisePixels
from transforms.verifying import VerifyOutput

__all__ = [
    "CountCommitted",
    "DateRange",
    "DropDone",
    "EvaluateMasks",
    "GateImages",
    "GroupIntoUnits",
    "ListImages",
    "OnDates",
    "RemoveSuperseded",
    "SegmentArchive",
    "SegmentOptions",
    "SegmentUnit",
    "SummarisePixels",
    "VerifyOutput",
]
