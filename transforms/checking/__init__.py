"""Whether what stands in OUT is right: verification, and evaluation of masks.

It may import inputs, photos, output, flow and storage.
"""
