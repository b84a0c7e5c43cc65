"""Blocks: elements that are joined by name are shuffled in blocks.

Single elements cost far more in pickling and in the runner's bookkeeping.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.flow.records import Block

NAME_BUCKETS = 256
BLOCK_SIZE = 512


class BlockByName(beam.DoFn):
    """Gathers elements into blocks: T -> (bucket of the name, Block of T).

    Elements with the same name are in the same bucket; a bucket holds many names.

    Args:
        name_of: the name of an element.
    """

    def __init__(self, name_of: Callable[[Any], str]):
        self._name_of = name_of

    def start_bundle(self):
        self._blocks = defaultdict(list)

    def process(self, item: Any) -> Iterator[tuple[int, Block]]:
        bucket = zlib.crc32(self._name_of(item).encode()) % NAME_BUCKETS
        block = self._blocks[bucket]
        block.append(item)
        if len(block) == BLOCK_SIZE:
            yield bucket, Block(tuple(self._blocks.pop(bucket)))

    def finish_bundle(self):
        for bucket, items in self._blocks.items():
            yield GlobalWindows.windowed_value((bucket, Block(tuple(items))))
        del self._blocks
