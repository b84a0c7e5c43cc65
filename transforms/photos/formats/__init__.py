"""Readers: one module per format that needs more than Pillow, and one for those that do not."""
