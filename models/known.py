"""Published networks worth taking: where they are, and the command that imports each of them.

They are a table, `known_models.yaml`, whose facts are those of the sources it names. Nothing is
downloaded.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

TABLE = Path(__file__).with_name("known_models.yaml")


@dataclass(frozen=True)
class KnownModel:
    """A published network.

    Attributes:
        name: short name.
        source: page or handle where it is published.
        file: what to get from there, and how to make of it what can be imported.
        licence: licence of the weights, as their source states it.
        data: data set of the mIoU; the network was trained on its training split.
        classes: class set.
        miou: published mIoU, 0..1; None if there is none.
        reference: where the mIoU is published.
        note: what else to know; empty if nothing.
        command: imports the network.
    """

    name: str
    source: str
    file: str
    licence: str
    data: str
    classes: str
    miou: float | None
    reference: str
    note: str
    command: str


def known_models() -> tuple[KnownModel, ...]:
    """The networks of the table, in its order."""
    return tuple(KnownModel(**entry) for entry in yaml.safe_load(TABLE.read_text("utf-8")))
