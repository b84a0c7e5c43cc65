"""Confidence: the confidence of each pixel as an 8-bit grey PNG, and means for the row."""

from models.segmenter import Confidence
from transforms.photos.mask_files import encode_grey
from transforms.segmenting.outputs import PhotoOutput, SegmentedPhoto


def make_confidence(photo: SegmentedPhoto) -> tuple[bytes | None, Confidence | None]:
    """The confidence image of a photo, and its means."""
    found = photo.segmentation
    image = None if found.confidence_image is None else encode_grey(found.confidence_image)
    return image, found.confidence


OUTPUT = PhotoOutput(make_confidence, bytes_per_pixel=2)
