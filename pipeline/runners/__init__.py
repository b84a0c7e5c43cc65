"""Where a graph runs: in this process, on a portable runner, on Dataflow.

It may import errors and the console, and knows nothing of runs.
"""
