"""What a file of a network says, whatever its format: the common result of all readers."""

from dataclasses import dataclass, field, fields, replace
from typing import Generic, TypeVar

from models.graphs import Channels, Format, Gives, Resize

T = TypeVar("T")


class ModelImportError(ValueError):
    """A network cannot be imported: it is damaged, unsupported, or might run code.

    The message is one line: what was found, where, what was expected, and what to do.
    """


ASSUMED = "assumed"
"""Where a value comes from that nobody states."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """Something that was found out.

    Attributes:
        value: it.
        source: where, for users, such as `preprocessor_config.json`.
    """

    value: T
    source: str

    @property
    def is_assumed(self) -> bool:
        """Whether nobody states it."""
        return self.source.startswith(ASSUMED)


@dataclass(frozen=True)
class Port:
    """An input or output of a network, as its file states it.

    Attributes:
        name: of the tensor.
        dtype: NumPy's name of the type of its elements.
        shape: None for a size that is open.
        scale: of a quantised tensor, which stands for `(value - zero_point) * scale`; None for
            others.
        zero_point: see `scale`.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scale: float | None = None
    zero_point: int = 0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is stated beside the ports; None for what is not.

    Attributes:
        name: of the model.
        architecture: of the network.
        licence: of the model.
        channels: order of the colours.
        mean: per RGB channel, of photos scaled to 0..1.
        std: per RGB channel, of photos scaled to 0..1.
        input_size: width and height that photos should have.
        resize: how photos are brought to it.
        gives: what the outputs are.
        outputs: number of class ids that the network tells apart, if they come out of an argmax.
        class_names: in the order of the outputs; they may name one more, see `settling`.
        colors: RGB of each of them.
    """

    name: Fact[str] | None = None
    architecture: Fact[str] | None = None
    licence: Fact[str] | None = None
    channels: Fact[Channels] | None = None
    mean: Fact[tuple[float, float, float]] | None = None
    std: Fact[tuple[float, float, float]] | None = None
    input_size: Fact[tuple[int, int]] | None = None
    resize: Fact[Resize] | None = None
    gives: Fact[Gives] | None = None
    outputs: Fact[int] | None = None
    class_names: Fact[tuple[str, ...]] | None = None
    colors: Fact[tuple[tuple[int, int, int], ...]] | None = None

    def filled_from(self, other: "Facts") -> "Facts":
        """These facts, and those of `other` where nothing is stated here.

        Colours are taken along with the class names that they are of.
        """
        missing = {entry.name for entry in fields(self) if getattr(self, entry.name) is None}
        if self.class_names is not None:
            missing -= {"colors"}
        return replace(self, **{name: getattr(other, name) for name in missing})


@dataclass(frozen=True, kw_only=True)
class Source:
    """A network that can be imported.

    Attributes:
        format: of `files`.
        precision: of its arithmetic and weights: `f32`, `f16` or `int8`.
        files: content of the package's files by name, see `graphs.SUFFIXES`; the first one
            describes the network. They need no other file.
        inputs: of the network.
        outputs: of the network.
        facts: what else is stated.
        warnings: lines that the user should see.
    """

    format: Format
    precision: str
    files: dict[str, bytes]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    facts: Facts = field(default_factory=Facts)
    warnings: tuple[str, ...] = ()
