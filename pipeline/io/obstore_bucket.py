"""Buckets of S3, Google Cloud Storage and Azure, by obstore.

obstore (the `object_store` crate) sends one request for each read and write, where pyarrow sends two and
three, and s3fs needs 4 and 9 times the CPU time (docs/results.md, object stores).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from mmap import mmap
from typing import Any

from pipeline.io.object_store import ObjectInfo, get_end_by_size, one_line, whole_seconds_ns
from pipeline.io.store_errors import StoreError, names_missing_bucket, store_error

# Larger objects are uploaded in parts, of which a failed one is repeated alone.
_MULTIPART_BYTES = 64 * 2**20
_PART_BYTES = 16 * 2**20
# Status of the response of an object store without writes on condition that an object does not exist.
_NOT_IMPLEMENTED = 501


class ObstoreBucket:
    """A bucket of S3, Google Cloud Storage or Azure."""

    def __init__(
        self,
        store: Any,
        name: str,
        walk_unusual: Callable[[str, str], Iterator[ObjectInfo]] | None = None,
        hint: str = "",
    ):
        """Create a bucket.

        Args:
            store: a store of obstore.
            name: URI of the bucket, for messages.
            walk_unusual: lists the objects of a folder after a key, also those that obstore cannot address.
            hint: what to do about denied requests, for messages.
        """
        self._store, self._name, self._walk_unusual, self._hint = store, name, walk_unusual, hint
        self._has_suffix_ranges = not name.startswith("az:")
        self._has_conditional_writes = True

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        options: dict[str, Any] = {}
        if length is not None:
            options = {"range": (start, start + length)}
        elif start:
            options = {"range": {"offset": start}}
        if length == 0:
            return b""
        try:
            with self._os_errors(key):
                return self._store.get(key, options=options).bytes().to_bytes()
        except _EmptyRangeError:
            return b""

    def get_end(self, key: str, length: int) -> tuple[bytes, int]:
        if not self._has_suffix_ranges:
            return get_end_by_size(self, f"{self._name}/{key}", key, length)
        try:
            with self._os_errors(key):
                result = self._store.get(key, options={"range": {"suffix": length}})
                return result.bytes().to_bytes(), result.meta["size"]
        except _EmptyRangeError:
            return b"", 0

    def put(self, key: str, data: bytes | mmap) -> None:
        with self._os_errors(key):
            self._store.put(key, data, use_multipart=len(data) > _MULTIPART_BYTES, chunk_size=_PART_BYTES)

    def create(self, key: str, data: bytes) -> bool:
        import obstore.exceptions as errors

        if self._has_conditional_writes:
            try:
                with self._os_errors(key):
                    self._store.put(key, data, mode="create", use_multipart=False)
                return True
            except errors.AlreadyExistsError:
                return False
            except StoreError as error:
                if error.status != _NOT_IMPLEMENTED:
                    raise
                self._has_conditional_writes = False
        # Some services with the interface of S3, such as Alibaba's, have no other way.
        if self.head(key) is not None:
            return False
        self.put(key, data)
        return True

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._os_errors(key):
                return _to_info(self._store.head(key))
        except (FileNotFoundError, ValueError):
            return None
        except StoreError as error:
            if error.status and not error.reason_known:
                # Answers to this kind of request have no text; those to a read of the same object do.
                self.get(key, 0, 1)
            raise

    def walk(self, folder: str) -> Iterator[ObjectInfo]:
        last = ""
        try:
            with self._os_errors(folder):
                for chunk in self._store.list(folder or None, chunk_size=1000):
                    for meta in chunk:
                        last = max(last, meta["path"])
                        if meta["path"] != folder:  # the marker of the folder itself, `folder/`
                            yield _to_info(meta)
        except UnusualKeyError as error:
            # obstore refuses the whole page of a listing that has one such key. Pages are in order of keys.
            if self._walk_unusual is None:
                raise OSError(f"{error}; rename that object") from None
            yield from self._walk_unusual(folder, last)

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        try:
            with self._os_errors(folder):
                result = self._store.list_with_delimiter(folder or None)
        except UnusualKeyError:
            yield from _direct_children(folder, self.walk(folder))
            return
        yield from (ObjectInfo(key.rstrip("/"), is_folder=True) for key in result["common_prefixes"])
        yield from (_to_info(meta) for meta in result["objects"] if meta["path"] != folder)

    def delete(self, keys: Sequence[str]) -> None:
        with self._os_errors(keys[0] if keys else ""):
            try:
                self._store.delete(list(keys))
            except TypeError:  # a key that obstore cannot address
                raise OSError(
                    f"{self._name}: one of {', '.join(keys[:3])} … has a name that cannot be deleted here; "
                    "delete it with the store's own tools"
                ) from None

    def copy(self, source: str, target: str) -> None:
        with self._os_errors(source):
            self._store.copy(source, target)

    @contextmanager
    def _os_errors(self, key: str) -> Iterator[None]:
        """Convert errors of obstore into those of local files, with a message of one line."""
        import obstore.exceptions as errors

        try:
            yield
        except FileNotFoundError as error:
            if names_missing_bucket(str(error)):
                raise store_error(str(error), self._name, key) from None
            raise FileNotFoundError(f"{self._name}/{key}: no such object") from None
        except errors.AlreadyExistsError:
            raise
        except errors.InvalidPathError as error:
            raise UnusualKeyError(one_line(error)) from None
        except errors.BaseError as error:
            if "status code: 416" in str(error):
                raise _EmptyRangeError from None
            raise store_error(str(error), self._name, key, self._hint) from None
        except ValueError as error:
            raise UnusualKeyError(one_line(error)) from None


class UnusualKeyError(ValueError):
    """A key that obstore cannot address: with an empty part, `.` or `..` as a part, or control characters."""


class _EmptyRangeError(Exception):
    """A range that starts at or after the end of the object."""


def _to_info(meta: Any) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], whole_seconds_ns(meta["last_modified"]))


def _direct_children(folder: str, infos: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
    """Yield the objects directly in a folder, and its folders, of a recursive listing."""
    start, folders = f"{folder}/" if folder else "", set()
    for info in infos:
        name, slash, _ = info.key.removeprefix(start).partition("/")
        if not slash:
            yield info
        elif name and name not in folders:
            folders.add(name)
            yield ObjectInfo(start + name, is_folder=True)
