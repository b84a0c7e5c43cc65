"""XMP: the simple properties of a photo's XMP packet (ISO 16684-1)."""

from typing import Any

from defusedxml import DefusedXmlException, ElementTree

EXIF = "http://ns.adobe.com/exif/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
GPANO = "http://ns.google.com/photos/1.0/panorama/"
"""Namespaces, as they stand before the names of properties."""

MOST_BYTES = 4 << 20
"""Larger packets are not parsed; real ones have some thousand bytes."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}RDF"


def properties(packet: Any, *spaces: str) -> dict[str, str]:
    """The simple properties of the photo itself, by namespace and name as one text.

    Empty if there is no packet, or if it is damaged, too large or declares entities.

    Args:
        packet: the bytes of the packet; anything else is none.
        spaces: a packet without any of these namespaces is not parsed.
    """
    if not isinstance(packet, bytes) or len(packet) > MOST_BYTES:
        return {}
    text = _ascii(packet)
    if not any(space in text for space in spaces):
        return {}
    try:
        root = ElementTree.fromstring(packet.strip(b"\0 \r\n"))
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError):
        return {}
    # Deeper elements may describe other photos, which this one was made from.
    nodes = [node for rdf in root.iter(_RDF) for node in rdf]
    given = [
        pair
        for node in nodes
        for pair in (*node.attrib.items(), *((child.tag, child.text or "") for child in node))
    ]
    return {name.lstrip("{").replace("}", "", 1): value.strip() for name, value in given}


def _ascii(packet: bytes) -> str:
    """The ASCII characters of a packet in UTF-8, UTF-16 or UTF-32."""
    return packet.replace(b"\0", b"").decode("ascii", "ignore")
