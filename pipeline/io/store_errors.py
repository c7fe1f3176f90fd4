"""Errors of object stores, in one line and without secrets.

Clients give the whole response of a store, and the URL of the request. Responses repeat an expired session
token, and URLs may hold a password or a signature: of a response only the code and the message are kept, and
URLs are shortened.
"""

from __future__ import annotations

import re

# Codes of answers about credentials that stores give with status 400; other ones have status 401 or 403.
_ACCESS_CODES = {
    "AuthFailure",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "UnauthorizedAccess",
    "AuthenticationRequired",
    "AccessDenied",
}
_ACCESS_STATUS = (401, 403)
_NO_BUCKET_CODES = {"NoSuchBucket", "ContainerNotFound"}
_REGION_CODES = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
# The client's text of a redirect without address, by which S3 answers in the wrong region.
_REDIRECT = "redirect without LOCATION"
# Statuses and a code that say to repeat a request, as statuses from 500 on do.
_REPEATABLE_STATUS = (408, 425, 429)
_REPEATABLE_CODE = "RequestTimeout"
# Before the text of an error of boto3, such as of an SSO session that has ended.
_PROVIDER = r"External \w+ credential provider: (.*)"


class StoreError(OSError):
    """A request that an object store refused or did not answer; its text names the bucket and the reason."""

    uri = ""
    """URI of the object or folder, without options."""
    transient = True
    """Whether the same request may succeed later."""
    status = 0
    """HTTP status of the answer; 0 if there was none."""
    reason_known = True
    """Whether the answer had a text, which those to requests of kind HEAD lack."""


class StoreAccessError(StoreError, PermissionError):
    """A request with missing, expired or wrong credentials, or without the right to do so."""

    transient = False


def store_error(text: str, bucket: str, key: str, hint: str = "") -> StoreError:
    """Return the error of a request from the text of the client's error.

    Args:
        text: text of the client's error, with the store's answer.
        bucket: URI of the bucket.
        key: key in it; empty for its root.
        hint: what is known about the credentials, for denied requests.
    """
    text = " ".join(text.partition("\n\nDebug source")[0].split())
    code, message = _code(text), _tag(text, "Message") or _group(_PROVIDER, text)
    status = int(_group(r"status code: (\d{3})", text) or 0)
    reason = ": ".join(dict.fromkeys(filter(None, (code, message)))) or without_secrets(text)
    if names_missing_bucket(text):
        error, transient = StoreError(f"no such bucket: {bucket}"), False
    elif _is_denied(status, code, text):
        error, transient = StoreAccessError(f"{bucket} denies access ({reason}){hint and f'; {hint}'}"), False
    elif code in _REGION_CODES or _REDIRECT in text:
        fix = "set AWS_REGION, or add ?region=… to the URI"
        error, transient = StoreError(f"{bucket} is in another region ({reason}); {fix}"), False
    else:
        error = StoreError(f"{bucket}: {reason}" if code else reason)
        transient = _may_pass(status) or code == _REPEATABLE_CODE
    error.uri, error.status = f"{bucket}/{key}" if key else bucket, status
    error.transient, error.reason_known = transient, bool(code)
    return error


def failed_request(text: str, uri: str, status: int = 0) -> StoreError:
    """Return the error of a request that another client has explained.

    Args:
        text: what was wrong, and where.
        uri: URI of the object or folder.
        status: HTTP status of the answer; 0 if there was none.
    """
    error = StoreError(text)
    error.uri, error.status, error.transient = uri, status, _may_pass(status)
    return error


def _may_pass(status: int) -> bool:
    """Return whether a request with this answer may succeed later."""
    return not 400 <= status < 500 or status in _REPEATABLE_STATUS


def names_missing_bucket(text: str) -> bool:
    """Return whether an answer says that there is no such bucket, rather than no such object."""
    return _code(text) in _NO_BUCKET_CODES


def without_secrets(text: str) -> str:
    """Return a text without what URLs and answers in it may hold: passwords, signatures, tokens."""
    text = re.sub(r"(?<=://)[^/@\s]*@", "", text)
    text = re.sub(r"(\w+://[^\s?]*)\?\S+", r"\1", text)
    return text.partition("<")[0].strip().rstrip(":")[:500]


def _is_denied(status: int, code: str, text: str) -> bool:
    return code in _ACCESS_CODES or status in _ACCESS_STATUS or "lacked valid authentication" in text


def _code(text: str) -> str:
    """Return the code of an answer, such as `AccessDenied`; empty without."""
    return _tag(text, "Code") or _group(r"\(code: (\w+)\)", text)


def _tag(text: str, name: str) -> str:
    return text.partition(f"<{name}>")[2].partition(f"</{name}>")[0].strip()


def _group(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
