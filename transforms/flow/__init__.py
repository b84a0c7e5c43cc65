"""Records that flow between steps, and shared means to process them: blocks, threads, progress.

May import storage.
"""
