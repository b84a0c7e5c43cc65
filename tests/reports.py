"""The report of an output folder, read back as its page reads it."""

import base64
import json
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transforms.reporting import contract


@dataclass(frozen=True)
class Report:
    """A report on disk."""

    path: Path

    @property
    def data(self) -> dict[str, Any]:
        """The document, which keeps to the contract."""
        script = (self.path / "data.js").read_bytes().decode("ascii")
        assert script.startswith(contract.SCRIPT) and script.endswith(";\n")
        text = script.removeprefix(contract.SCRIPT).removesuffix(";\n")
        contract.Report.model_validate_json(text)
        return json.loads(text)

    @property
    def files(self) -> list[str]:
        found = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def mask(self, identity: str) -> np.ndarray:
        """The mask that a script hands to the page."""
        script = (self.path / "photos" / f"{identity}.mask.js").read_text("ascii")
        found = re.fullmatch(r'citymaskMask\("(\d+)", "data:image/png;base64,(.+)"\);\n', script)
        assert found and found[1] == identity
        with Image.open(BytesIO(base64.b64decode(found[2]))) as image:
            assert image.mode == "L"
            return np.array(image)

    def picture(self, identity: str, ending: str = ".jpg") -> Image.Image:
        return Image.open(self.path / "photos" / f"{identity}{ending}")
