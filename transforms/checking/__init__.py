"""Checks of an output folder: verification, and evaluation of masks against labels.

It may import inputs, photos, output, flow and storage.
"""
