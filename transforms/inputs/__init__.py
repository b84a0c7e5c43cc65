"""From INPUTs to image references and bytes.

It may import photos, output, flow and storage.
"""
