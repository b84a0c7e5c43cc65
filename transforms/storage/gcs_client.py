"""The client of Google Cloud Storage: its creation, retries and errors.

Requests that fail for the moment are repeated with growing delays. See the documentation of retries
at https://cloud.google.com/storage/docs. `STORAGE_EMULATOR_HOST` names another server than
Google's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transforms.storage.files import AccessError, MissingError, StorageError

EMULATOR = "STORAGE_EMULATOR_HOST"

CONNECTIONS = 64
"""Kept open at most; further ones are made and closed again."""

_SIGN_IN = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the "
    "key file of a service account"
)


@dataclass(frozen=True)
class Patience:
    """How long a request may take.

    Attributes:
        retry_seconds: a request is repeated for so long.
        timeouts: seconds to connect, and between two packets of an answer.
    """

    retry_seconds: float = 120.0
    timeouts: tuple[float, float] = (10.0, 60.0)

    def options(self) -> dict[str, Any]:
        """The arguments of the client's methods that say so."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_delay(initial=0.2, maximum=10.0, multiplier=2.0)
        return {"retry": retry.with_timeout(self.retry_seconds), "timeout": self.timeouts}


DEFAULT_PATIENCE = Patience()


def new_client() -> Any:
    """A client, with the credentials of this machine.

    Raises:
        AccessError: there are no credentials.
    """
    # Without a metadata server nothing answers, and a laptop must not wait for it.
    os.environ.setdefault("GCE_METADATA_TIMEOUT", "1")
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    import google.auth
    from google.auth.credentials import AnonymousCredentials, Credentials
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage import Client

    from transforms.storage.sessions import MeteredSession

    credentials: Credentials = AnonymousCredentials()
    project = None
    if not os.environ.get(EMULATOR):
        try:
            credentials, project = google.auth.default(scopes=Client.SCOPE)
        except GoogleAuthError as error:
            raise _not_signed_in("Google Cloud Storage", error) from error
    session = MeteredSession(credentials, CONNECTIONS)
    # The client has no public argument for its session, nor for the size of its connection pool.
    return Client(project or "<none>", credentials, _http=session)


@contextmanager
def explained(what: str, patience: Patience) -> Iterator[None]:
    """Turn the client's errors into a StorageError that begins with `what`."""
    import requests
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption

    try:
        yield
    except api.NotFound as error:
        if "bucket does not exist" in error.message:
            raise AccessError(f"{what}: no such bucket") from error
        raise MissingError(f"{what}: no such object") from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise AccessError(
            f"{what}: no permission ({_line(error)}); give this account a role for it, "
            "such as Storage Object User on the bucket"
        ) from error
    except GoogleAuthError as error:
        raise _not_signed_in(what, error) from error
    except api.RetryError as error:
        raise StorageError(
            f"{what}: no success in {patience.retry_seconds:g} s of tries "
            f"({_line(error.cause or error)})"
        ) from error
    except (api.GoogleAPIError, requests.RequestException, DataCorruption, OSError) as error:
        raise StorageError(f"{what}: {_line(error)}") from error


def _not_signed_in(what: str, error: Exception) -> AccessError:
    return AccessError(f"{what}: not signed in ({_line(error)}); {_SIGN_IN}")


def _line(error: Any) -> str:
    """An error in one line: what the server says of it, or the error itself."""
    response = getattr(error, "response", None)
    if response is None or response.ok:
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    try:
        said = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        said = response.reason
    return f"{response.status_code} {said}"
