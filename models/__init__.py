"""Segmentation models: class tables, networks, model packages, engines, training, evaluation.

Knows nothing of Apache Beam: everything here is plain Python on arrays and files.
"""
