"""An environment without TensorFlow: this one's packages but for TensorFlow's."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("tensorflow", "tf_", "tensorboard", "__editable__")
"""Beginnings of the names of packages that it does not have."""


def make_environment(folder: Path) -> Path:
    """Make a virtual environment of links to this one's packages; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", code], text=True).strip())
    for scheme in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(scheme)).iterdir():
            link = packages / entry.name
            if not entry.name.lower().startswith(LEFT_OUT) and not link.is_symlink():
                link.symlink_to(entry)
    (packages / "repository.pth").write_text(f"{ROOT}\n")
    return python
