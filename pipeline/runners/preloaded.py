"""Importing this module imports all modules of `transforms`, and with them those of `models`.

Workers do so before they have threads. Otherwise the first elements and functions of a job are
unpickled in several threads, which import the same packages from different ends: Python then ends
one of the imports with a `_DeadlockError`, and the runner the job.
"""

import pkgutil
from importlib import import_module

import transforms

for module in pkgutil.walk_packages(transforms.__path__, f"{transforms.__name__}."):
    import_module(module.name)
