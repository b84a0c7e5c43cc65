"""Segmentation models: class tables, networks, model packages, engines, training, evaluation.

Plain Python on arrays and files, without Apache Beam. Imports nothing from `transforms` or
`pipeline`.
"""
