"""Reporting: what the page of an output folder shows, a module for each of its ideas.

It may import measures, inputs, photos, output, flow and storage.
"""

DEFAULT_GALLERY = 500
"""Photos that a page shows at most."""
