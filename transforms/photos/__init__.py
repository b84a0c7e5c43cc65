"""From bytes to pixels and back: decoding, EXIF, projections, looks, mask files.

It may import flow and storage.
"""
