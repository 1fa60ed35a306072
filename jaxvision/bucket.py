"""Folders in buckets (gs://BUCKET/FOLDER): what they lack of a file system, and what stands in for it.

A bucket keeps whole objects under names that look like paths. An object is there at once when it is uploaded, so
nothing is written beside it and moved; it cannot be added to, so a log is uploaded anew with each line; nothing can be
locked; and a move is a copy of each object and its deletion. etils' epath reaches buckets by TensorFlow's client;
Orbax by its own for arrays, and by Google's to ask what kind of bucket it is.
"""

import os
import sys

from etils import epath

from jaxvision.errors import RunFolderError

SCHEME = "gs://"


def in_bucket(path: epath.PathLike) -> bool:
    """Whether a path is none of a file system's."""
    return "://" in os.fspath(path)


def expanded(path: epath.PathLike) -> str:
    """The path with a leading ~ or ~USER as the home folder, where that is known. A shell leaves a quoted ~, and one
    after --flag=, as it is."""
    return os.path.expanduser(os.fspath(path))


def absolute(path: epath.PathLike) -> epath.Path:
    """The path from the root, of a file system or a bucket: epath's own `resolve` takes gs:// for a relative path."""
    found = epath.Path(expanded(path))
    return found if in_bucket(path) else found.resolve()


def real_place(path: epath.PathLike) -> str:
    """Where a path leads in truth, links followed; a bucket has none."""
    return os.fspath(path).rstrip("/") if in_bucket(path) else os.path.realpath(path)


def require_reachable(folder: epath.PathLike) -> None:
    """Does nothing where `folder` is of a file system.

    Raises: RunFolderError: it is in no bucket of Google Cloud Storage, or in one that is not there, or that this
      machine's account cannot look into; or the extra for buckets is not installed.
    """
    if not in_bucket(folder):
        return
    name = os.fspath(folder)
    if not name.startswith(SCHEME):
        raise RunFolderError(
            f"run folder {name}: of buckets only those of Google Cloud Storage are known. Give gs://BUCKET/FOLDER, or a"
            " folder of a file system."
        )
    try:
        import google.cloud.storage as storage
        from google.api_core.exceptions import NotFound
    except ImportError as error:
        raise RunFolderError(
            f"run folder {name}: a bucket needs the extra `gcs`: pip install 'jaxvision[gcs]'. Received: {error}"
        ) from error
    bucket = name.removeprefix(SCHEME).partition("/")[0]
    try:
        storage.Client().get_bucket(bucket)  # as Orbax will
    except NotFound as error:
        raise RunFolderError(f"run folder {name}: there is no bucket {bucket!r}. Make it, or give another.") from error
    except Exception as error:  # no account, no permission, no network: each of a library of its own
        raise RunFolderError(
            f"run folder {name}: the bucket cannot be used. Name an account (gcloud auth application-default login, or"
            " GOOGLE_APPLICATION_CREDENTIALS), and let it read and write there (storage.objects.*, storage.buckets.get)"
            f". Received: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error


def said(error: BaseException) -> str | None:
    """What went wrong with a bucket, in a line; None where it is no error of TensorFlow's client."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
        return None
    lines = str(error.message).strip().splitlines()
    return lines[0] if lines else type(error).__name__
