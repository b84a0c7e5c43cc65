"""The program: command line, the Beam graph, runs and their records."""

__version__ = "0.1.0"
