"""What a run has to do: which images, under which names, in which work units.

It may import inputs, photos, output, flow and storage.
"""
