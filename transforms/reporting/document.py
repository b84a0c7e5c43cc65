"""The document: totals, groups and failures in the schema of `contract`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms.flow.records import Capture
from transforms.measures import aggregating
from transforms.measures.hexagons import cell_keys
from transforms.output import columns, precisions
from transforms.output.archives import Archive
from transforms.output.failures import failure_kinds
from transforms.reporting import contract, mapping, totals
from transforms.reporting.measuring import Measures
from transforms.reporting.pictures import Wanted
from transforms.reporting.selection import Chosen
from transforms.reporting.surveying import Survey
from transforms.reporting.totals import Totals

MOST_GROUPS = 1_000
"""Maximum groups on the page."""

EXAMPLES = 5
"""Maximum example images of a kind of failure."""

LARGEST_FIRST = [(aggregating.IMAGES, "descending"), (aggregating.KEY, "ascending")]


@dataclass(frozen=True, eq=False)
class Gathered:
    """The results of counting the rows of an archive.

    Attributes:
        survey: where the photos are.
        totals: counts over all of them.
        archive: sums over all of them (`measures.aggregating`); None where there is none.
        groups: sums of the largest groups, or None.
        group_count: how many groups there are in all.
        cells: sums per H3 cell, or None.
        points: the photos with a position where they are shown each, or None.
        failures: those of images that have not been done since.
        chosen: the gallery, or None.
    """

    survey: Survey
    totals: Totals
    archive: pa.Table | None
    groups: pa.Table | None
    group_count: int
    cells: pa.Table | None
    points: pa.Table | None
    failures: pa.Table
    chosen: Chosen | None


@dataclass(frozen=True)
class Frame:
    """The parts of a report that do not come from rows.

    Attributes:
        created_at: when it was begun.
        version: of citymask.
        nights: the runs, oldest first.
        settings: of the newest run.
        tiles: the background of the map.
    """

    created_at: datetime
    version: str
    nights: tuple[contract.Night, ...]
    settings: contract.Settings | None
    tiles: contract.Tiles | None


def largest_groups(sums: pa.Table, most: int = MOST_GROUPS) -> pa.Table:
    """The sums of the groups with the most images; ties go to the first by name."""
    return sums.take(pc.select_k_unstable(sums, most, LARGEST_FIRST))


def wanted_pictures(chosen: Chosen) -> list[Wanted]:
    """The photos of the gallery, for which pictures are made."""
    wanted = (columns.URI, columns.VERSION, columns.MASK, columns.WIDTH, columns.HEIGHT)
    rows = zip(*(chosen.photos[name].to_pylist() for name in wanted), strict=True)
    return [Wanted(_id(position), *row) for position, row in enumerate(rows)]


def build(
    archive: Archive,
    measures: Measures,
    gathered: Gathered,
    frame: Frame,
    pictures: Mapping[str, bool],
) -> contract.Report:
    """The document.

    Args:
        archive: what it is of.
        measures: what each photo has a value of.
        gathered: what the rows came to.
        frame: what stands around it.
        pictures: by id of the gallery photos, whether there is a picture of it.
    """
    survey, counted = gathered.survey, gathered.totals
    return contract.Report(
        format=contract.FORMAT,
        created_at=frame.created_at.isoformat(timespec="seconds"),
        citymask=frame.version,
        output=archive.output.rpartition("/")[2],
        model=_model(archive),
        classes=[
            contract.Class(key=each.key, name=each.name, colour=each.color)
            for each in archive.classes.classes
        ],
        measures=measures.described(),
        indicators_version=measures.indicators.version,
        images=contract.Images(
            done=survey.images,
            failed=len(gathered.failures),
            skipped=frame.nights[-1].images.get("skipped", 0) if frame.nights else 0,
            positioned=survey.positioned,
            unlike=counted.unlike,
        ),
        totals=contract.Totals(
            pixels=counted.pixels.tolist(),
            images=counted.images.tolist(),
            values=_means(gathered.archive, measures)[0]
            if gathered.archive is not None
            else [None] * len(measures),
            precisions=precisions.by_name(counted.precisions.tolist()),
        ),
        distributions=totals.distributions(counted, measures),
        groups=_groups(gathered.groups, gathered.group_count, measures),
        extremes=_extremes(gathered.chosen, measures),
        map=_map(gathered, measures, frame.tiles),
        gallery=_gallery(gathered.chosen, measures, pictures),
        nights=list(frame.nights),
        failures=shown_failures(gathered.failures),
        settings=frame.settings,
    )


def shown_failures(failures: pa.Table) -> list[contract.FailureKind]:
    """The kinds of failures, with a few examples each."""
    return [
        contract.FailureKind(
            stage=kind.stage,
            error=kind.error,
            message=kind.message,
            count=len(kind.images),
            examples=list(kind.images[:EXAMPLES]),
        )
        for kind in failure_kinds(failures)
    ]


def plain(value: Any) -> Any:
    """A JSON value with null in place of NaN and infinity, which JSON lacks."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _model(archive: Archive) -> contract.Model:
    card = plain(archive.card)
    width, height = card.get("input_width"), card.get("input_height")
    return contract.Model(
        id=archive.model,
        name=str(card.get("name", "")),
        architecture=str(card.get("architecture", "")),
        input=(width, height) if width and height else None,
        training=card.get("training") or {},
        metrics=card.get("metrics") or {},
    )


def _groups(sums: pa.Table | None, count: int, measures: Measures) -> contract.Groups:
    if sums is None:
        return contract.Groups(rows=[], left_out=0)
    means = aggregating.means(sums).sort_by(LARGEST_FIRST)
    rows = zip(
        means[aggregating.KEY].to_pylist(),
        means[aggregating.IMAGES].to_pylist(),
        mapping.rounded(means, measures),
        strict=True,
    )
    return contract.Groups(
        rows=[contract.Group(name=n, images=images, values=v) for n, images, v in rows],
        left_out=count - len(means),
    )


def _means(sums: pa.Table, measures: Measures) -> list[contract.Values]:
    return mapping.rounded(aggregating.means(sums), measures)


def _extremes(chosen: Chosen | None, measures: Measures) -> list[contract.Extremes]:
    if chosen is None:
        return [contract.Extremes(most=[], least=[])] * len(measures)
    return [
        contract.Extremes(most=list(map(_id, most)), least=list(map(_id, least)))
        for most, least in zip(chosen.most, chosen.least, strict=True)
    ]


def _map(
    gathered: Gathered, measures: Measures, tiles: contract.Tiles | None
) -> contract.Map | None:
    survey = gathered.survey
    if survey.bounds is None:
        return None
    if gathered.points is not None:
        features = mapping.point_features(
            gathered.points, measures, _gallery_ids(gathered.chosen, None)
        )
    else:
        assert gathered.cells is not None, "photos with a position stand in cells"
        features = mapping.hexagon_features(
            aggregating.means(gathered.cells),
            measures,
            _gallery_ids(gathered.chosen, survey.resolution),
        )
    south, west, north, east = survey.bounds
    return contract.Map(
        kind=contract.POINTS if gathered.points is not None else contract.HEXAGONS,
        resolution=None if gathered.points is not None else survey.resolution,
        bounds=(*mapping.position(south, west), *mapping.position(north, east)),
        tiles=tiles,
        features=features,
    )


def _gallery_ids(chosen: Chosen | None, resolution: int | None) -> dict[str, str]:
    """Ids of gallery photos by name or, given a resolution, by H3 cell."""
    if chosen is None:
        return {}
    keys = (
        chosen.photos[columns.IMAGE].to_pylist()
        if resolution is None
        else cell_keys(chosen.photos, resolution).to_pylist()
    )
    ids = {key: _id(position) for position, key in reversed(list(enumerate(keys)))}
    ids.pop(None, None)
    return ids


def _gallery(
    chosen: Chosen | None, measures: Measures, pictures: Mapping[str, bool]
) -> list[contract.Photo]:
    if chosen is None:
        return []
    values = mapping.rounded(chosen.photos, measures)
    rows = zip(chosen.photos.to_pylist(), values, chosen.reasons, strict=True)
    return [
        contract.Photo(
            id=_id(position),
            image=row[columns.IMAGE],
            group=row[columns.GROUP],
            width=row[columns.WIDTH],
            height=row[columns.HEIGHT],
            position=_position(row),
            captured_at=_time(row[columns.CAPTURED_AT]),
            heading=_rounded(row[columns.HEADING]),
            projection=row[columns.PROJECTION],
            confidence=_rounded(row[columns.CONFIDENCE]),
            uncertainty=_rounded(row[columns.UNCERTAINTY]),
            unlike=row[columns.UNLIKE_TRAINING],
            values=of_row,
            reasons=list(reasons),
            photo=pictures[_id(position)],
        )
        for position, (row, of_row, reasons) in enumerate(rows)
    ]


def _id(position: int) -> str:
    """The id of the gallery photo at a position."""
    return str(position + 1)


def _position(row: Mapping[str, Any]) -> contract.Position | None:
    found = Capture(row[columns.LATITUDE], row[columns.LONGITUDE]).position
    return mapping.position(*found) if found else None


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, contract.DIGITS)
