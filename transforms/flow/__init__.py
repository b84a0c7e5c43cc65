"""What travels between steps (records), and how: in blocks, in threads, counted.

It may import storage.
"""
