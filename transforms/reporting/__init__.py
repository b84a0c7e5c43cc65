"""The report: a page about an output folder, from rows, photos and masks to HTML.

It may import measures, inputs, photos, output, flow and storage.
"""

DEFAULT_GALLERY = 500
"""Photos that a page shows at most."""
