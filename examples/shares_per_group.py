"""Use citymask's transforms in your own pipeline: class shares per folder, as a table.

python examples/shares_per_group.py demo/photos /tmp/masks
"""

import sys

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from models.packages import load_package
from transforms import ListImages, SegmentArchive, SegmentOptions, SummarisePixels
from transforms.output.summarising import ArchiveCounts, counts_of_result


def print_table(counts: ArchiveCounts) -> None:
    print(counts.summary().to_csv())


def main(archive: str, output: str) -> None:
    package = load_package("default")
    options = SegmentOptions(output=output, run_id="example")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        (
            pipeline
            | "Archive" >> beam.Create([archive])
            | "List" >> ListImages()
            | "OnlyJpeg" >> beam.Filter(lambda ref: ref.image.lower().endswith(".jpg"))
            | "Segment" >> SegmentArchive(package, options)
            | "Count" >> beam.FlatMap(counts_of_result)
            | "Summarise" >> SummarisePixels(package.classes)
            | "Print" >> beam.Map(print_table)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
