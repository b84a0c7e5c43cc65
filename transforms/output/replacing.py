"""Replacing: drops the rows of images that have a newer row."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.output import rows
from transforms.output.summarising import COUNTERS


@dataclass
class RemoveSuperseded(beam.PTransform):
    """Drops rows whose image has a newer one.

    `superseded` PCollection[Superseded] and `results` PCollection[UnitResult] -> PCollection[str],
    the rewritten files. If an image failed in this run, its old row is kept.

    Attributes:
        output: the output folder.
        owner: who holds its lock, see `fencing.check`.
    """

    output: str
    owner: str = ""

    def expand(self, inputs):
        images = inputs["results"] | "ImagesDone" >> beam.FlatMap(
            lambda result: [(item.planned.ref.image, True) for item in result.segmented]
        )
        old = inputs["superseded"] | "KeyByImage" >> beam.Map(lambda row: (row.image, row))
        return (
            {"old": old, "new": images}
            | "JoinByImage" >> beam.CoGroupByKey()
            | "Replaced"
            >> beam.FlatMap(replaced_rows).with_output_types(tuple[str, tuple[str, str]])
            | "GroupByFile" >> beam.GroupByKey()
            | "DropRows" >> beam.Map(_drop_rows, self.output, self.owner)
        )


def replaced_rows(joined: tuple[str, dict[str, Iterable]]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The rows of an image to drop, as file and key: superseded rows and doubled rows.

    Args:
        joined: the image, its superseded rows as `old`, and as `new` whether this run segmented it.
    """
    image, sides = joined
    done = any(sides["new"])
    for row in sides["old"]:
        if done or row.doubled:
            yield row.file, (image, row.run_id)


def _drop_rows(item: tuple[str, Iterable[tuple[str, str]]], output: str, owner: str) -> str:
    file, of_file = item
    dropped = list(of_file)
    rows.drop_rows(output, file, dropped, owner)
    Metrics.counter(COUNTERS, "rows_removed").inc(len(dropped))
    return file
