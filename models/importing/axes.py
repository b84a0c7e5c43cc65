"""The axes of a network's input and output: which are colours, classes, rows and columns."""

from collections.abc import Sequence

from models.graphs import Channels, Format, Layout
from models.importing.sources import ModelImportError, Port

DTYPES = ("uint8", "int8", "float16", "float32")
"""Types of inputs that photos can be turned into."""

MOST_OUTPUTS = 4096
"""Most classes that a network may tell apart; a longer axis is one of rows or columns."""

COLOURS = len(Channels.RGB.value)

Sides = tuple[int | None, int | None]
"""Rows and columns, None for open ones."""


def photos_among(inputs: Sequence[Port]) -> Port:
    """The input that takes photos; raises ModelImportError if there is none."""
    if len(inputs) != 1:
        raise ModelImportError(
            f"found {len(inputs)} inputs ({listed(inputs)}), expected one, for photos"
        )
    (port,) = inputs
    if len(port.shape) != 4 or port.shape[0] not in (None, 1):
        raise ModelImportError(
            f"found the input {listed(inputs)}, expected one photo of four axes, such as "
            "1x3x512x512: export the network for one photo at a time"
        )
    if port.dtype not in DTYPES:
        raise ModelImportError(
            f"found the input {listed(inputs)}, expected photos of type {', '.join(DTYPES)}"
        )
    return port


def layout_of(photos: Port, format: Format) -> Layout:
    """The order of the axes of photos; where all are open, the usual one of the format.

    Raises:
        ModelImportError: none of them can be that of the colours.
    """
    order = [Layout.NCHW, Layout.NHWC]
    if format is Format.TFLITE:
        order.reverse()
    for number in (COLOURS, None):
        for layout in order:
            if _channels(photos, layout) == number:
                return layout
    raise ModelImportError(
        f"found the input {listed([photos])}, expected an axis of {COLOURS} colours, second or last"
    )


def sides_of(port: Port, layout: Layout) -> Sides:
    """The rows and columns of photos, scores or class ids."""
    if len(port.shape) == 3 or layout is Layout.NHWC:
        return port.shape[1], port.shape[2]
    return port.shape[2], port.shape[3]


def scores_among(
    outputs: Sequence[Port], wanted: str | None, sides: Sides, warnings: list[str]
) -> Port:
    """The output that tells the classes.

    Args:
        outputs: of the network.
        wanted: name of the one to take.
        sides: of photos.
        warnings: gets a line if there was a choice.

    Raises:
        ModelImportError: there is none.
    """
    usable = [port for port in outputs if _layouts(port, sides)]
    if wanted is not None:
        usable = [port for port in usable if port.name == wanted]
        if not usable:
            raise ModelImportError(
                f"found the outputs {listed(outputs)}, none with a class for each pixel and the "
                f"name {wanted!r}: give one of them by --output-name"
            )
        return usable[0]
    lists = [port.name for port in outputs if len(port.shape) == 3 and port not in usable]
    if lists and usable:
        raise ModelImportError(
            f"found the outputs {listed(outputs)}: {lists[0]} lists objects or regions, and "
            "citymask needs a class for each pixel: export the network with the step that makes "
            "one of them, or give --output-name if another output has it"
        )
    if not usable:
        raise ModelImportError(
            f"found the outputs {listed(outputs)}, expected one with a score or a class for each "
            "pixel, in the proportions of the photo: export the network with such an output"
        )
    if len(usable) > 1:
        others = ", ".join(port.name for port in usable[1:])
        warnings.append(
            f"the output {usable[0].name} is used, not {others}: choose by --output-name"
        )
    return usable[0]


def layout_of_ids(port: Port, layout: Layout) -> Layout:
    """The order of the axes of class ids; raises ModelImportError if there is more than one each.

    Args:
        port: the output.
        layout: of photos.
    """
    if len(port.shape) == 3:
        return layout
    for number in (1, None):
        for one in _as_photos(layout):
            if _channels(port, one) == number:
                return one
    raise ModelImportError(
        f"found the output {listed([port])} of class ids, expected one for each pixel, such as "
        "1x512x512"
    )


def layout_of_scores(
    port: Port, layout: Layout, sides: Sides, numbers: Sequence[int]
) -> tuple[Layout, int | None]:
    """The order of the axes of scores, and how many classes they are of, if the axis is not open.

    Args:
        port: the output.
        layout: of photos.
        sides: of photos.
        numbers: of classes that are likely, the likeliest first.

    Raises:
        ModelImportError: no axis can be that of the classes.
    """
    possible = _as_photos(layout) if len(port.shape) == 4 else []
    possible = [one for one in possible if one in _layouts(port, sides)]
    for number in numbers:
        for one in possible:
            if _channels(port, one) == number:
                return one, number
    for one in possible:
        if 1 <= (_channels(port, one) or 0) <= MOST_OUTPUTS:
            return one, _channels(port, one)
    for one in possible:
        if _channels(port, one) is None:
            return one, None
    raise ModelImportError(
        f"found the output {listed([port])} of scores, expected four axes: one photo, its rows and "
        "columns, and the classes"
    )


def listed(ports: Sequence[Port]) -> str:
    """Ports for messages, such as `image: float32 1x3x?x?`."""
    return ", ".join(
        f"{port.name}: {port.dtype} {'x'.join('?' if s is None else str(s) for s in port.shape)}"
        for port in ports
    )


def _channels(port: Port, layout: Layout) -> int | None:
    return port.shape[1] if layout is Layout.NCHW else port.shape[3]


def _as_photos(layout: Layout) -> list[Layout]:
    """All orders of axes, first that of photos."""
    return sorted(Layout, key=lambda one: one is not layout)


def _layouts(port: Port, sides: Sides) -> list[Layout]:
    """The orders of axes with which an output is in the proportions of a photo."""
    if len(port.shape) not in (3, 4):
        return []
    return [one for one in Layout if _proportional(sides_of(port, one), sides)]


def _proportional(cells: Sides, sides: Sides) -> bool:
    """Whether cells may cover a photo: each side is the photo's by a stride, up to one cell."""
    (rows, columns), (height, width) = cells, sides
    if rows is None or columns is None:
        return True
    if height is None or width is None:
        return False  # What has one size only is no map of photos of any size.
    return abs(rows * width - columns * height) <= height + width
