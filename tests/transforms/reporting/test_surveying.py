"""Surveys: counts and bounds of positions, and the finest hexagons that are not too many."""

import h3
import pytest

from transforms.reporting.surveying import FINEST, Survey, add_surveys, survey_of

LIMIT = 20


def parents(derived, resolution: int) -> set[str]:
    """The cells of a resolution that hold the finest cells of the photos."""
    positions = zip(derived["latitude"].to_pylist(), derived["longitude"].to_pylist(), strict=True)
    finest = (h3.latlng_to_cell(*p, FINEST) for p in positions if None not in p)
    return {h3.cell_to_parent(cell, resolution) for cell in finest}


def test_a_photo_without_either_number_has_no_position(derived):
    survey = survey_of(derived, LIMIT)
    known = [lat for lat in derived["latitude"].to_pylist() if lat is not None]
    assert (survey.images, survey.positioned) == (240, 160) == (240, len(known))
    assert survey.bounds[0] == min(known) and survey.bounds[2] == max(known)


def test_the_resolution_is_the_finest_with_so_few_cells(derived):
    survey = survey_of(derived, LIMIT)
    assert len(parents(derived, survey.resolution)) == len(survey.cells) <= LIMIT
    assert len(parents(derived, survey.resolution + 1)) > LIMIT
    coarser = survey.resolution_for(5)
    assert len(parents(derived, coarser)) <= 5 < len(parents(derived, coarser + 1))


@pytest.mark.parametrize("seed", range(8))
def test_surveys_of_parts_add_up_to_that_of_the_whole(derived, split, seed):
    whole = survey_of(derived, LIMIT)
    found = add_surveys((survey_of(part, LIMIT) for part in split(derived, seed)), LIMIT)
    assert (found.images, found.positioned, found.bounds) == (
        whole.images, whole.positioned, whole.bounds
    )  # fmt: skip
    assert found.resolution == whole.resolution and (found.cells == whole.cells).all()


def test_nothing_surveyed_is_nowhere():
    survey = add_surveys([], LIMIT)
    assert (survey.images, survey.bounds, len(survey.cells)) == (0, None, 0)
    assert (survey + Survey(LIMIT, 3)).images == 3
