"""Selection: the photos shown in the gallery.

Those with the most and the least of each measure, those the network was least sure of, those most
unlike what it knows, one of each place, and for what room is left others by lot. The lot of a photo
is drawn from its name, so that the same archive has the same gallery, however its rows are spread
over files and workers.

Rows that might be chosen are kept as tables: what is kept of the rows of two parts is what would be
kept of both together.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.measures.hexagons import cell_keys
from transforms.output import columns
from transforms.reporting import contract
from transforms.reporting.measuring import Measures, numbers
from transforms.reporting.reading import OF_PHOTO

LOT = "lot"
PLACE = "place"
"""Columns of candidates: the random number of a photo, and its hexagon or group."""

MOST_EXTREMES = 12
"""Maximum photos at either end of a measure; fewer if there are many measures."""


@dataclass(frozen=True)
class Rules:
    """How the gallery is filled.

    Attributes:
        size: most photos in it.
        measures: columns of the measures.
    """

    size: int
    measures: tuple[str, ...]

    @property
    def cells(self) -> int:
        """Maximum hexagons of the map that get a photo each."""
        return max(1, self.size // 2)

    @property
    def extremes(self) -> int:
        """Photos at either end of each measure; together they fill half of the gallery."""
        return min(max(1, self.size // (4 * len(self.measures))), MOST_EXTREMES)

    @property
    def unsure(self) -> int:
        """Photos chosen for low confidence, and as many for being unlike those the model knows."""
        return self.size // 20


@dataclass(frozen=True)
class Chosen:
    """The gallery.

    Attributes:
        photos: the rows of its photos; their ids are 1, 2, ... in this order.
        reasons: of each photo.
        most, least: per measure the positions of its photos, the utmost first.
    """

    photos: pa.Table
    reasons: tuple[tuple[str, ...], ...]
    most: tuple[tuple[int, ...], ...]
    least: tuple[tuple[int, ...], ...]


def candidates_of(derived: pa.Table, rules: Rules, resolution: int) -> pa.Table:
    """The derived rows that may be chosen; `resolution` is that of the hexagons."""
    table = pa.table(
        {
            **{name: derived[name] for name in (*OF_PHOTO, *rules.measures)},
            LOT: pa.array(_lots(derived[columns.IMAGE].to_pylist())),
            PLACE: pc.coalesce(
                cell_keys(derived, resolution),
                pc.binary_join_element_wise("group", derived[columns.GROUP], ":"),
            ),
        }
    )
    return _reduced(table, rules)


def merge_candidates(candidates: Iterable[pa.Table | None], rules: Rules) -> pa.Table | None:
    """The candidates that may still be chosen after merging; None if there are none."""
    tables = [table for table in candidates if table is not None]
    return _reduced(pa.concat_tables(tables), rules) if tables else None


def choose(candidates: pa.Table, measures: Measures, rules: Rules) -> Chosen:
    """Choose the gallery from the candidates of the whole archive."""
    lots = candidates[LOT].to_numpy()
    most, least = _extremes(candidates, rules)
    unsure, unlike = _unsure(candidates, rules), _unlike(candidates, rules)
    places = _places(candidates)
    # First all utmost photos, then all that are second, ...
    ranks = zip_longest(*chain.from_iterable(zip(most, least, strict=True)))
    utmost = (row for rank in ranks for row in rank if row is not None)
    order = chain(utmost, unsure, unlike, places, np.argsort(lots).tolist())
    taken = list(dict.fromkeys(order))[: rules.size]
    names = candidates[columns.IMAGE].to_pylist()
    taken.sort(key=lambda row: names[row])
    positions = {row: position for position, row in enumerate(taken)}

    def shown(found: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(positions[row] for row in of if row in positions) for of in found)

    reasons: dict[int, list[str]] = {row: [] for row in taken}
    for measure, highest, lowest in zip(measures.described(), most, least, strict=True):
        for reason, found in ((contract.MOST, highest), (contract.LEAST, lowest)):
            for row in found:
                if row in reasons:
                    reasons[row].append(f"{reason}:{measure.key}")
    for reason, found in ((contract.LOW_CONFIDENCE, unsure), (contract.UNLIKE, unlike)):
        for row in found:
            if row in reasons:
                reasons[row].append(reason)
    standing = set(places)
    for row, of_row in reasons.items():
        if row in standing or not of_row:
            of_row.append(contract.COVERAGE)
    return Chosen(
        candidates.take(pa.array(taken, pa.int64())),
        tuple(tuple(reasons[row]) for row in taken),
        shown(most),
        shown(least),
    )


def _reduced(table: pa.Table, rules: Rules) -> pa.Table:
    lots = table[LOT].to_numpy()
    most, least = _extremes(table, rules)
    by_lot = np.argsort(lots)[: rules.size].tolist()
    doubtful = (*_unsure(table, rules), *_unlike(table, rules))
    kept = chain(*most, *least, doubtful, _some_places(table, rules), by_lot)
    return table.take(pa.array(sorted(set(kept)), pa.int64()))


def _extremes(table: pa.Table, rules: Rules) -> tuple[list[list[int]], list[list[int]]]:
    """Per measure, the rows with the highest nonzero values and with the lowest."""
    lots = table[LOT].to_numpy()
    most, least = [], []
    for name in rules.measures:
        values = numbers(table[name])
        positive = np.where(values > 0, values, np.nan)
        most.append(_lowest(-positive, lots, rules.extremes))
        least.append(_lowest(values, lots, rules.extremes))
    return most, least


def _unsure(table: pa.Table, rules: Rules) -> list[int]:
    """The rows with the lowest confidence, where known."""
    return _lowest(numbers(table[columns.CONFIDENCE]), table[LOT].to_numpy(), rules.unsure)


def _unlike(table: pa.Table, rules: Rules) -> list[int]:
    """The rows with the highest uncertainty among those that are unlike what the model knows."""
    unlike = table[columns.UNLIKE_TRAINING].fill_null(False).to_numpy()
    uncertainty = np.where(unlike, numbers(table[columns.UNCERTAINTY]), np.nan)
    return _lowest(-uncertainty, table[LOT].to_numpy(), rules.unsure)


def _places(table: pa.Table) -> list[int]:
    """One row per place, in random order."""
    order = np.argsort(table[LOT].to_numpy())
    places = table[PLACE].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(places[order], return_index=True)
    return order[np.sort(first)].tolist()


def _some_places(table: pa.Table, rules: Rules) -> list[int]:
    """One row per place; if there are too many places for the gallery, of some of them.

    Which places these are must not depend on the rows, so it is drawn from their names.
    """
    found = _places(table)
    names = table[PLACE].take(pa.array(found, pa.int64())).to_pylist()
    drawn = sorted(zip(_lots(names).tolist(), found, strict=True))
    return [row for _, row in drawn[: rules.size]]


def _lowest(values: np.ndarray, lots: np.ndarray, count: int) -> list[int]:
    """The positions of the lowest values, lowest first, ties in random order; NaN is skipped."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) > count > 0:
        bound = np.partition(values[known], count - 1)[count - 1]
        below = known[values[known] < bound]
        equal = known[values[known] == bound]
        room = count - len(below)
        known = np.concatenate((below, equal[np.argpartition(lots[equal], room - 1)[:room]]))
    order = np.lexsort((lots[known], values[known]))
    return known[order][:count].tolist()


def _lots(names: Sequence[str]) -> np.ndarray:
    """A pseudo-random uint64 for each name."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), "<u8")
