"""A worker process of the local runner, in its own session.

Ctrl-C in a terminal goes to all processes of a session. It is for the program alone: that asks its
workers to finish what has begun.
"""

import os
import sys

from apache_beam.runners.worker import sdk_worker_main

from pipeline import streams

if __name__ == "__main__":
    streams.secure()
    os.setsid()
    sdk_worker_main.main(sys.argv)
