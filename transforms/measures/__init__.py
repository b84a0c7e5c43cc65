"""Numbers derived from rows: shares, indicators, means.

It may import output, flow and storage.
"""
