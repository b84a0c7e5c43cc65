"""Beam transforms that segment image archives, and the plain functions they wrap.

The transforms below are public: put them into a pipeline of your own.
"""

from transforms.checking.evaluating import EvaluateMasks
from transforms.checking.verifying import VerifyOutput
from transforms.inputs.dates import DateRange, OnDates
from transforms.inputs.listing import ListImages
from transforms.output.begun import SettleLeftOver
from transforms.output.replacing import RemoveSuperseded
from transforms.output.summarising import CountCommitted, SummarisePixels
from transforms.planning.dating import DateImages
from transforms.planning.dropping import DropDone
from transforms.planning.gating import GateImages
from transforms.planning.units import GroupIntoUnits
from transforms.segmenting.options import SegmentOptions
from transforms.segmenting.step import SegmentArchive, SegmentUnit

__all__ = [
    "CountCommitted",
    "DateImages",
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
    "SettleLeftOver",
    "SummarisePixels",
    "VerifyOutput",
]
