"""The summary: `summary.json`, pixels and images per class for the archive and its groups."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.csv_cells import as_text, lines
from transforms import storage
from transforms.output import columns

FORMAT = 1
"""Increased when a change would break today's readers. A summary without a format has format 1."""

CSV_COLUMNS = (
    "group", "images_done", "images_failed", "images_skipped",
    "class", "pixels", "fraction", "images", "level",
)  # fmt: skip

CLASSES = "classes"
MERGED = "merged"
"""Levels of a summary: the model's classes, and the merged classes of a mapping."""


class Document(BaseModel):
    """A mapping in the document; unknown keys of newer versions are kept."""

    model_config = ConfigDict(extra="allow")


class Images(Document):
    """Counts of images by outcome; `gated` only if images could be set aside.

    `unlike` are those of `done` that are unlike the photos that the model knows; only if that is
    known of some.
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    gated: int | None = None
    unlike: int | None = None


class ClassShare(Document):
    """A class or merged class.

    Attributes:
        name: its name.
        pixels: its pixels over all images.
        fraction: its share of all pixels, 0 to 1.
        images: the number of images that show it.
    """

    name: str
    pixels: int
    fraction: float
    images: int


class Group(Document):
    """Counts of some images; `merged` only if classes are merged."""

    images: Images = Images()
    classes: list[ClassShare] = Field(default_factory=list)
    merged: list[ClassShare] | None = None


class Interrupted(Document):
    """Why a run ended early, and how many images it left."""

    reason: str
    left: int


class Summary(Group):
    """The document: the counts of the whole archive, and of its groups by name.

    `precisions` are the images with a row by the precision of their masks; a summary of an older
    version lacks them.
    """

    precisions: dict[str, int] | None = None
    groups: dict[str, Group] = Field(default_factory=dict)
    interrupted: Interrupted | None = None
    format: int = FORMAT

    def to_document(self) -> dict[str, Any]:
        """The summary as a JSON document, without the entries that are None."""
        return self.model_dump(exclude_none=True, exclude={"format"} if self.format == 1 else None)

    def to_json(self) -> str:
        """The summary as indented JSON."""
        return json.dumps(self.to_document(), indent=2, ensure_ascii=False) + "\n"

    def to_csv(self) -> str:
        """The summary as CSV: a row per class, for the archive (empty group) and each group."""
        rows: list[tuple[Any, ...]] = [CSV_COLUMNS]
        for name, group in (("", self), *self.groups.items()):
            images = (as_text(name), group.images.done, group.images.failed, group.images.skipped)
            for level, entries in ((CLASSES, group.classes), (MERGED, group.merged or [])):
                for entry in entries:
                    shares = (as_text(entry.name), entry.pixels, entry.fraction, entry.images)
                    rows.append((*images, *shares, level))
        return lines(rows).decode()


def read_summary(output: str) -> Summary:
    """Read the summary of an output folder, of this or another version.

    Raises:
        StorageError: the file cannot be read, or is not a summary.
    """
    path = f"{output}/{columns.SUMMARY_JSON}"
    try:
        return Summary.model_validate(json.loads(storage.read(path)))
    except ValidationError as error:
        first, *_ = error.errors(include_url=False)
        where = ".".join(map(str, first["loc"]))
        raise storage.StorageError(f"{path}: not a summary ({where}: {first['msg']})") from error
    except (ValueError, RecursionError) as error:
        raise storage.StorageError(f"{path}: not a summary ({error})") from error
