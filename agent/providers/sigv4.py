"""AWS Signature Version 4 for a POST without a query. Pure.

    key = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, date), region), service), "aws4_request")
    signature = HMAC(key, the lines: algorithm, time, scope, SHA-256(canonical request))

Rules (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html): the path that is
sent is encoded once more before it is signed (all services but S3); signed are host, content type and the x-amz fields.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_END: Final = "aws4_request"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """An access key. Never logged."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    """Of temporary credentials."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature is good for."""

    at: datetime
    region: str
    service: str

    @property
    def stamp(self) -> str:
        """The time as AWS writes it."""
        return self.at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")

    def __str__(self) -> str:
        return f"{self.stamp[:8]}/{self.region}/{self.service}/{_END}"


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed."""

    url: str
    """Without a query; its path as it is sent."""
    content_type: str
    body: bytes


def sign(post: Post, credentials: Credentials, scope: Scope) -> dict[str, str]:
    """Return the headers that sign `post`, beside its content type and its host."""
    added = {"x-amz-date": scope.stamp}
    if credentials.session_token is not None:
        added["x-amz-security-token"] = credentials.session_token
    signed = {"content-type": post.content_type, "host": host_of(post.url), **added}
    names = ";".join(sorted(signed))
    to_sign = "\n".join((ALGORITHM, scope.stamp, str(scope), _sha256(_canonical(post, signed, names).encode())))
    signature = hmac.new(_signing_key(credentials, scope), to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"{credentials.access_key_id}/{scope}"
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {**added, "Authorization": authorization}


def host_of(url: str) -> str:
    """Return the Host header that the request will have."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{parts.port}"


def _canonical(post: Post, signed: Mapping[str, str], names: str) -> str:
    path = quote(urlsplit(post.url).path or "/", safe="/~")
    fields = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    return "\n".join(("POST", path, "", fields, names, _sha256(post.body)))


def _signing_key(credentials: Credentials, scope: Scope) -> bytes:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in str(scope).split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
