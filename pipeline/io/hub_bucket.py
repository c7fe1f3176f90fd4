"""Datasets on the Hugging Face hub as object stores, which are only read.

The bucket of a URI is the dataset, with its revision: `datasets/owner/name@v1` in
`hf://datasets/owner/name@v1/folder`. A slash in a revision is written `%2F`, except in `refs/pr/1` and
`refs/convert/parquet`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from mmap import mmap
from typing import Any, NoReturn
from urllib.parse import unquote

from pipeline.io.errors import UserError
from pipeline.io.object_store import ObjectInfo, get_end_by_size
from pipeline.io.store_errors import failed_request

_DATASET = re.compile(r"datasets/[^/@]+/[^/@]+(?:@(?:refs/(?:convert|pr)/[^/]+|[^/]+))?(?=/|\Z)")
# Seconds without any data, after which a read is repeated.
_TIMEOUT_S = 60.0
_BAD_RANGE, _PARTIAL = 416, 206
_UNAUTHORIZED, _FORBIDDEN = 401, 403


def split_hub_key(key: str) -> tuple[str, str]:
    """Split the key of a URI into dataset and path in it; the dataset is empty if the key names none."""
    match = _DATASET.match(key)
    return (match[0], key[match.end() + 1 :]) if match else ("", key)


class HubBucket:
    """A revision of a dataset on the hub."""

    def __init__(self, dataset: str, endpoint: str = "", anonymous: bool = False):
        """Create it.

        Args:
            dataset: `datasets/owner/name[@revision]`.
            endpoint: URL of the hub; empty for the usual one.
            anonymous: send no token.

        Raises:
            ImportError: huggingface_hub is not installed.
        """
        from huggingface_hub import HfApi

        self._name = f"hf://{dataset}"
        name, _, revision = dataset.removeprefix("datasets/").partition("@")
        self._dataset: dict[str, Any] = {
            "repo_id": name,
            "repo_type": "dataset",
            "revision": unquote(revision) or None,
        }
        self._token = False if anonymous else None
        self._api = HfApi(endpoint=endpoint or None, token=self._token)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        if length == 0:
            return b""
        headers = build_hf_headers(token=self._token)
        if start or length is not None:
            headers["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with self._errors(key):
            url = hf_hub_url(filename=key, endpoint=self._api.endpoint, **self._dataset)
            response = http_backoff("GET", url, headers=headers, timeout=_TIMEOUT_S)
            if response.status_code == _BAD_RANGE:  # starts at or after the end
                return b""
            hf_raise_for_status(response)
        content: bytes = response.content
        if response.status_code == _PARTIAL:
            return content
        return content[start : None if length is None else start + length]

    def get_end(self, key: str, length: int) -> tuple[bytes, int]:
        return get_end_by_size(self, f"{self._name}/{key}", key, length)

    def head(self, key: str) -> ObjectInfo | None:
        with self._errors(key):
            infos = [_to_info(entry) for entry in self._api.get_paths_info(paths=[key], **self._dataset)]
        return next((info for info in infos if info.key == key and not info.is_folder), None)

    def walk(self, folder: str) -> Iterator[ObjectInfo]:
        return (info for info in self._tree(folder, recursive=True) if not info.is_folder)

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        return self._tree(folder, recursive=False)

    def _tree(self, folder: str, recursive: bool) -> Iterator[ObjectInfo]:
        try:
            with self._errors(folder):
                entries = self._api.list_repo_tree(path_in_repo=folder, recursive=recursive, **self._dataset)
                yield from map(_to_info, entries)
        except FileNotFoundError:  # no such folder
            return

    def put(self, key: str, data: bytes | mmap) -> None:
        self._refuse()

    def create(self, key: str, data: bytes) -> bool:
        self._refuse()

    def delete(self, keys: Sequence[str]) -> None:
        self._refuse()

    def copy(self, source: str, target: str) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise OSError(errno.EROFS, "datasets on the Hugging Face hub are only read")

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Convert errors of the client; those of the whole dataset into `UserError`."""
        from huggingface_hub import errors

        try:
            yield
        except errors.EntryNotFoundError:
            raise FileNotFoundError(f"{self._name}/{key}: no such object") from None
        except errors.GatedRepoError as error:
            fix = f"request access on {self._api.endpoint}/datasets/{self._dataset['repo_id']}"
            raise UserError(
                f"{self._name}: a gated dataset: {fix}{self._login()} ({_reason(error)})"
            ) from None
        except errors.RepositoryNotFoundError as error:
            fix = "check owner and name" + (self._login() or ", and whether your token may read it")
            raise UserError(f"{self._name}: no such dataset, or private: {fix} ({_reason(error)})") from None
        except errors.RevisionNotFoundError as error:
            raise UserError(f"{self._name}: no such branch, tag or commit ({_reason(error)})") from None
        except errors.OfflineModeIsEnabled as error:
            raise UserError(f"{self._name}: {_reason(error)}") from None
        except errors.HfHubHTTPError as error:
            if error.response.status_code in (_UNAUTHORIZED, _FORBIDDEN):
                raise UserError(f"{self._name}: access denied: check HF_TOKEN ({_reason(error)})") from None
            raise failed_request(
                f"{self._name}: {_reason(error)}", self._uri(key), error.response.status_code
            ) from None
        except errors.HFValidationError as error:
            raise UserError(f"{self._name}: no name of a dataset: {_reason(error)}") from None
        except OSError:
            raise
        except Exception as error:  # those of the HTTP client, which is another one in each major version
            raise failed_request(
                f"cannot reach {self._api.endpoint}: {_reason(error)}", self._uri(key)
            ) from None

    def _uri(self, key: str) -> str:
        return f"{self._name}/{key}" if key else self._name

    def _login(self) -> str:
        """Return how to be recognized by the hub; empty if a token was sent."""
        from huggingface_hub import get_token

        has_token = self._token is None and get_token() is not None
        return "" if has_token else ", and set HF_TOKEN (none is set) or run `hf auth login`"


def _to_info(entry: Any) -> ObjectInfo:
    """Return a file or folder; the id of the content of a file stands for its modification time."""
    content_id = getattr(entry, "blob_id", None)
    if content_id is None:
        return ObjectInfo(entry.path, is_folder=True)
    return ObjectInfo(entry.path, entry.size, int(content_id[:15], 16))


def _reason(error: Exception) -> str:
    """Return what the hub, or else its client, states, in one line."""
    text = getattr(error, "server_message", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:300].rstrip(".")
