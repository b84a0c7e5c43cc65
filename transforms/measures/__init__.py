"""What is derived from rows: shares, indicators, means, positions and hexagons.

It may import output, flow and storage.
"""
