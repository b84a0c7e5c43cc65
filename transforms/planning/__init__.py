"""Planning: which images to segment, under which names, in which work units.

It may import inputs, photos, output, flow and storage.
"""
