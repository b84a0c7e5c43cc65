"""`python -m pipeline` is the same as `citymask`."""

from pipeline.cli import main

main()
