"""Values derived from rows: shares, indicators, means, positions and hexagons.

May import output, flow and storage.
"""
