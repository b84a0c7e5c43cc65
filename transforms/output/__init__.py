"""OUT, file by file: names, columns, rows, summary, lock.

It may import flow and storage.
"""
