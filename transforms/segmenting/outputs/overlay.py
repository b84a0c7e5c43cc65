"""Overlays: the photo blended with the colours of its mask, a JPEG."""

from transforms.photos.decoding import decode_pixels
from transforms.photos.mask_files import encode_overlay
from transforms.photos.pictures import BYTES_PER_PIXEL
from transforms.segmenting.outputs import PhotoOutput, SegmentedPhoto


def make_overlay(photo: SegmentedPhoto) -> tuple[bytes, None]:
    """The overlay of a photo; raises what `decode_pixels` raises."""
    assert photo.data is not None, "the photo is kept for this output"
    original = decode_pixels(photo.data, photo.max_pixels)
    return encode_overlay(original, photo.mask, photo.palette), None


OUTPUT = PhotoOutput(make_overlay, needs_photo=True, bytes_per_pixel=BYTES_PER_PIXEL)
