"""The Beam graph of exports: survey the files, write the parts of each format, then finish it."""

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.exporting.format import Format
from transforms.exporting.parts import Layout, Part, survey
from transforms.output import columns, parquet
from transforms.output.archives import Archive

COUNTERS = "citymask.exporting"
"""Namespace of the Beam counters of these steps: a format and `PHOTOS` or `LEFT_OUT`."""

PHOTOS = "photos"
LEFT_OUT = "left_out"


@dataclass
class ExportArchive(beam.PTransform):
    """Writes exports: a pipeline -> PCollection[str], the names of the completed formats.

    The output folder must not change meanwhile.

    Attributes:
        archive: what is exported.
        formats: by their names.
    """

    archive: Archive
    formats: dict[str, Format]

    def expand(self, start: beam.pvalue.PBegin) -> beam.PCollection[str]:
        layout = (
            start.pipeline
            | "Output" >> beam.Create([self.archive.output])
            | "FindRows" >> beam.FlatMap(parquet.file_blocks, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
            | "Survey" >> beam.Map(survey, self.archive)
            | "Surveys" >> beam.combiners.ToList()
            | "Layout" >> beam.Map(Layout.of)
        )
        finished = [self._export(layout, name) for name in self.formats]
        return finished | beam.Flatten()

    def _export(self, layout: beam.PCollection[Layout], name: str) -> beam.PCollection[str]:
        form, shared = self.formats[name], beam.pvalue.AsSingleton(layout)
        return (
            layout
            | f"Parts_{name}" >> beam.FlatMap(Layout.parts, form.rows_per_part)
            | f"Spread_{name}" >> beam.Reshuffle()
            | f"Write_{name}" >> beam.Map(_write, form, name, shared)
            | f"Count_{name}" >> beam.CombineGlobally(_count)
            | f"Finish_{name}" >> beam.Map(_finish, form, name)
        )


def _write(part: Part, form: Format, name: str, layout: Layout) -> int:
    exported = form.write(part, layout.schema)
    for kind, number in ((PHOTOS, exported.photos), (LEFT_OUT, exported.left_out)):
        Metrics.counter(COUNTERS, f"{name} {kind}").inc(number)
    return 1


def _count(parts: Iterable[int]) -> int:
    return sum(parts)


def _finish(parts: int, form: Format, name: str) -> str:
    form.finish(parts)
    return name
