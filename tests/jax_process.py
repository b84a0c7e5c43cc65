"""Python processes in which Keras runs on JAX."""

import os
import subprocess
import sys


def on_jax(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python to its end; XLA optimises little, as compiling takes longer than what is run."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
