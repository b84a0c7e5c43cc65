"""The output folder, file by file: names, columns, rows, summary, lock.

May import flow and storage.
"""
