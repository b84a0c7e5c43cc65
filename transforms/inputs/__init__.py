"""Inputs: from INPUTs to image references and encoded bytes.

It may import photos, output, flow and storage.
"""
