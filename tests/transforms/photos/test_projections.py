"""Projections: what photos are taken for, by option, metadata and Photo Sphere XMP in files."""

import math
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from models.panoramas import Panorama
from transforms.flow.records import ExtraColumn, Projection
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_photo
from transforms.photos.projections import claimed
from transforms.photos.xmp import GPANO

FULL = {
    "ProjectionType": "equirectangular",
    "FullPanoWidthPixels": 400,
    "FullPanoHeightPixels": 200,
    "CroppedAreaImageWidthPixels": 400,
    "CroppedAreaImageHeightPixels": 200,
    "CroppedAreaLeftPixels": 0,
    "CroppedAreaTopPixels": 0,
}


def packet(properties: dict, form: str = "attributes") -> bytes:
    """An XMP packet as cameras write it, with the properties as attributes or as elements."""
    attributes = elements = ""
    if form == "attributes":
        attributes = " ".join(f'GPano:{name}="{value}"' for name, value in properties.items())
    else:
        elements = "".join(f"<GPano:{n}>{v}</GPano:{n}>" for n, v in properties.items())
    return f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
        <x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
        <rdf:Description rdf:about="" xmlns:GPano="{GPANO}" {attributes}>{elements}
        </rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def with_entity(xmp: bytes) -> bytes:
    """The packet with an entity declaration, which can expand to gigabytes or name other files."""
    start = xmp.index(b"<x:xmpmeta")
    return xmp[:start] + b'<!DOCTYPE x [<!ENTITY lol "lol">]>' + xmp[start:]


def with_xmp(xmp: bytes, format: str) -> dict[str, Any]:
    """What Pillow has to be told to save an XMP packet in a file of a format."""
    if not xmp:
        return {}
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return {"pnginfo": chunks}
    return {"tiffinfo": {TiffImagePlugin.XMP: xmp}} if format == "TIFF" else {"xmp": xmp}


def decoded(size, xmp=b"", claim=Projection.AUTO, format="JPEG", shape=(64, 128)):
    file = BytesIO()
    Image.new("RGB", size, (90, 120, 200)).save(file, format, **with_xmp(xmp, format))
    return decode_photo(file.getvalue(), lambda w, h: shape, DEFAULT_MAX_PIXELS, claim)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("form", ["attributes", "elements"])
def test_a_photo_sphere_is_recognised_in_files_of_all_formats(format, form):
    photo = decoded((400, 200), packet(FULL, form), format=format)
    assert photo.panorama == Panorama() and not photo.contradiction
    assert photo.panorama.is_closed and photo.panorama.shows_all_sky


@pytest.mark.parametrize("size", [(400, 200), (401, 200), (2048, 1024), (100, 50)])
def test_a_whole_one_that_was_scaled_since_is_whole(size):
    assert decoded(size, packet(FULL)).panorama == Panorama()


def test_a_cropped_one_shows_the_part_that_it_says():
    cropped = FULL | {
        "CroppedAreaImageWidthPixels": 100,
        "CroppedAreaImageHeightPixels": 50,
        "CroppedAreaLeftPixels": 300,
        "CroppedAreaTopPixels": 50,
    }
    photo = decoded((200, 100), packet(cropped))
    shown = photo.panorama
    assert (shown.top, shown.bottom) == pytest.approx((math.pi / 4, 0))
    assert shown.extent == pytest.approx(math.pi / 2)
    assert not shown.is_closed and not shown.shows_all_sky


def test_one_without_its_lower_part_goes_all_around_and_shows_the_sky():
    upper = FULL | {"CroppedAreaImageHeightPixels": 120}
    shown = decoded((400, 120), packet(upper)).panorama
    assert shown.is_closed and shown.shows_all_sky
    assert shown.bottom == pytest.approx(math.radians(-18))


@pytest.mark.parametrize(
    ("size", "changes", "found"),
    [
        ((400, 210), {}, "400 x 210"),
        ((400, 200), {"FullPanoHeightPixels": 300}, "not 2:1"),
        ((400, 200), {"CroppedAreaLeftPixels": 10}, "not inside"),
        ((400, 200), {"CroppedAreaTopPixels": -1}, "not inside"),
        ((400, 200), {"FullPanoWidthPixels": "wide"}, "no numbers"),
        ((400, 200), {"FullPanoWidthPixels": "nan"}, "no numbers"),
        ((400, 200), {"FullPanoHeightPixels": "inf"}, "no numbers"),
        ((400, 200), {"FullPanoHeightPixels": "1e308"}, "no numbers"),
        ((400, 200), {"CroppedAreaLeftPixels": "1" + "0" * 400}, "no numbers"),
        ((400, 200), {"CroppedAreaImageHeightPixels": "1e30"}, "no numbers"),
        ((400, 200), {"CroppedAreaImageHeightPixels": "-200"}, "not 2:1"),
        ((400, 200), {"CroppedAreaTopPixels": "999999999"}, "not inside"),
        ((400, 200), {"CroppedAreaImageWidthPixels": 0}, "not 2:1"),
        ((300, 200), {"CroppedAreaImageWidthPixels": None}, "300 x 200 pixels are not 2:1"),
    ],
)
def test_one_that_contradicts_itself_is_flat_and_says_why(size, changes, found):
    properties = {name: v for name, v in (FULL | changes).items() if v is not None}
    for claim in (Projection.AUTO, Projection.EQUIRECTANGULAR):
        photo = decoded(size, packet(properties), claim)
        assert photo.panorama is None
        assert found in photo.contradiction


@pytest.mark.parametrize(
    "xmp",
    [
        b"",
        packet({}),
        packet(FULL | {"ProjectionType": "cylindrical"}),
        packet(FULL)[:-60],
        packet(FULL).replace(GPANO.encode(), b"http://example.org/"),
        with_entity(packet(FULL)),
    ],
    ids=["none", "empty", "cylindrical", "cut", "another_namespace", "entity"],
)
def test_others_are_flat(xmp):
    photo = decoded((400, 200), xmp)
    assert photo.panorama is None and not photo.contradiction


def test_what_is_claimed_counts_more_than_the_file():
    assert decoded((400, 200), claim=Projection.EQUIRECTANGULAR).panorama == Panorama()
    assert decoded((400, 200), packet(FULL), Projection.PERSPECTIVE).panorama is None
    photo = decoded((400, 300), claim=Projection.EQUIRECTANGULAR)
    assert photo.panorama is None and photo.contradiction == "400 x 300 pixels are not 2:1"


def test_the_network_shape_of_a_closed_one_has_whole_strides_all_around():
    claim = Projection.EQUIRECTANGULAR
    assert decoded((400, 200), claim=claim, shape=(50, 101)).pixels.shape == (50, 96, 3)
    assert decoded((400, 200), shape=(50, 101)).pixels.shape == (50, 101, 3)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("equirectangular", Projection.EQUIRECTANGULAR),
        (" Spherical ", Projection.EQUIRECTANGULAR),
        ("perspective", Projection.PERSPECTIVE),
        ("fisheye", Projection.PERSPECTIVE),
        (0, Projection.PERSPECTIVE),
        ("", Projection.AUTO),
        (None, Projection.AUTO),
    ],
)
def test_metadata_claim_what_their_column_says(value, expected):
    extra = (ExtraColumn("camera", "string", "x"), ExtraColumn("projection_type", "string", value))
    assert claimed(Projection.AUTO, extra) is expected
    for option in (Projection.PERSPECTIVE, Projection.EQUIRECTANGULAR):
        assert claimed(option, extra) is option


def test_nothing_is_claimed_without_metadata():
    assert claimed(Projection.AUTO, ()) is Projection.AUTO
