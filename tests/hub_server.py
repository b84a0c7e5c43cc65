"""Stand-ins for the hubs of Hugging Face and Kaggle: each serves a folder as the only model.

Their paths and answers are those that `huggingface_hub` and `kagglehub` ask for.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from werkzeug import Request, Response
from werkzeug.utils import redirect

from tests.http_server import HttpServer, target

NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: what goes through it is not answered."""

SCRIPT = """
import sys
from models.importing import reading
source = reading.read(sys.argv[1])
print(source.facts.name.value, source.format.value, source.outputs[0].shape)
"""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(HttpServer):
    """Serves the files of a folder as a repository.

    Args:
        repository: its name, such as `city/streets`.
        folder: its files.

    Attributes:
        asked: method and target of each request.
    """

    def __init__(self, repository: str, folder: Path):
        self._repository, self._folder = repository, folder
        self.asked: list[str] = []

    def import_from(self, handle: str, cache: Path) -> subprocess.CompletedProcess[str]:
        """Read a handle in a process that reaches this server only, with an empty cache.

        It prints the name of the network, its format, and the shape of its output.
        """
        environment = {
            **{**os.environ, "HF_ENDPOINT": self.url, "HF_HOME": str(cache)},
            **{"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": self.host},
        }
        command = [sys.executable, "-c", SCRIPT, handle]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        self.asked.append(f"{request.method} {target(request)}")
        files = {
            file.relative_to(self._folder).as_posix(): file
            for file in self._folder.rglob("*")
            if file.is_file()
        }
        api, resolve = f"/api/models/{self._repository}", f"/{self._repository}/resolve/{COMMIT}/"
        if request.path == f"{api}/revision/main":
            siblings = [{"rfilename": name} for name in files]
            stated = {"id": self._repository, "sha": COMMIT, "siblings": siblings}
            return Response(json.dumps(stated), content_type="application/json")
        if request.path.startswith(f"{api}/tree/"):
            entries = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": COMMIT}
                for name, file in files.items()
            ]
            return Response(json.dumps(entries), content_type="application/json")
        if request.path.startswith(resolve) and request.path.removeprefix(resolve) in files:
            content = files[request.path.removeprefix(resolve)].read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            return Response(content, headers={"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        return Response(status=404, headers=missing)


class KaggleServer(HttpServer):
    """Serves the files of a folder as the files of whatever model is asked for.

    Args:
        folder: the files.

    Attributes:
        asked: the models, as dictionaries.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self.asked: list[dict[str, str]] = []

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        if request.path.startswith("/files/"):
            return Response((self._folder / request.path.removeprefix("/files/")).read_bytes())
        self.asked.append(request.get_json())
        if request.path.endswith("/ListModelInstanceVersionFiles"):
            files = [{"name": file.name} for file in self._folder.iterdir()]
            return Response(json.dumps({"files": files}), content_type="application/json")
        return redirect(f"/files/{self.asked[-1]['path']}")
