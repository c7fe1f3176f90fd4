"""Listings of S3 by boto3, which accepts keys that obstore cannot address, such as `a//b`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.io.object_store import ObjectInfo, whole_seconds_ns
from pipeline.io.store_errors import store_error

if TYPE_CHECKING:
    import boto3


@dataclass(frozen=True)
class Boto3Listing:
    """Lists the objects of a bucket."""

    bucket: str
    endpoint: str
    """URL; empty for that of AWS."""
    region: str
    is_anonymous: bool
    session: boto3.session.Session | None
    """Has the credentials; None: those of the environment."""

    def walk(self, folder: str, after: str) -> Iterator[ObjectInfo]:
        """Yield all objects below a folder whose keys come after one, in order of keys.

        Args:
            folder: key of the folder without `/` at its end; empty for the whole bucket.
            after: key before the first one; empty for all.

        Raises:
            StoreError: a request that the store refused or did not answer.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": f"{folder}/" if folder else ""}
        if after:
            request["StartAfter"] = after
        try:
            for page in self._client().get_paginator("list_objects_v2").paginate(**request):
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):  # markers of folders
                        modified = whole_seconds_ns(entry["LastModified"])
                        yield ObjectInfo(entry["Key"], entry["Size"], modified)
        except (BotoCoreError, ClientError) as error:
            raise store_error(_answer(error), f"s3://{self.bucket}", folder) from None

    def _client(self) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        options: dict[str, Any] = {"signature_version": UNSIGNED} if self.is_anonymous else {}
        if self.endpoint:  # as obstore: servers other than AWS need not have a name for each bucket
            options["s3"] = {"addressing_style": "path"}
        session = self.session or boto3.session.Session()
        return session.client(
            "s3", region_name=self.region, endpoint_url=self.endpoint or None, config=Config(**options)
        )


def _answer(error: Exception) -> str:
    """Return the text of an error of boto3 in the form in which other clients give a store's response."""
    response = getattr(error, "response", None)
    if not response:
        return str(error)
    code, message = (response.get("Error", {}).get(key, "") for key in ("Code", "Message"))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return f"<Code>{code}</Code><Message>{message}</Message> status code: {status}"
