"""From bytes to pixels and back: decoding, EXIF, projections, looks, mask files.

May import flow and storage.
"""
