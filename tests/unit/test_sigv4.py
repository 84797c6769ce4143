"""Signatures equal those of botocore 1.43 for the same request, key and moment."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from agent.providers.sigv4 import Credentials, Post, Scope, sign

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaDA=="
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARN = "arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2Feu.amazon.nova-lite-v1%3A0"


def signed(
    url: str, region: str, *, token: str | None = None, body: bytes = b"", at: datetime = NOON
) -> dict[str, str]:
    post = Post(url=url, content_type="application/json", body=body)
    credentials = Credentials(access_key_id=KEY_ID, secret_access_key=SECRET, session_token=token)
    return sign(post, credentials, Scope(at=at, region=region, service="bedrock"))


@pytest.mark.parametrize(
    ("url", "region", "token", "body", "signature"),
    [
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
            "us-east-1",
            None,
            b'{"messages":[]}',
            "b355411a293577f83dddd23bae640eb57a8e3cf0a29a0ab112d66873d6e90ce2",
        ),
        (
            f"https://bedrock-runtime.eu-central-1.amazonaws.com/model/{ARN}/converse-stream",
            "eu-central-1",
            TOKEN,
            '{"a":"ü"}'.encode(),
            "5e38c7ad7fc09844446fc7905dca69790932bc47187de5be38f36fc23828348d",
        ),
        (
            "https://bedrock-runtime.ap-southeast-2.amazonaws.com:8443/model/m/converse-stream",
            "ap-southeast-2",
            None,
            b"",
            "0aacd694d7225bd84ef838835fb43583617c2d38c4a39474ca8d8a505e90a675",
        ),
        (
            "https://vpce-1.bedrock-runtime.us-west-2.vpce.amazonaws.com/a~b%20c/model/m%2Bx/converse-stream",
            "us-west-2",
            None,
            b"x",
            "0436caf3498c1152844b56b3af754ea0e50063e441d6f1a1669a7f004db94a9b",
        ),
    ],
    ids=["model with a colon", "ARN and session token", "port", "private link, spaces and plus"],
)
def test_the_signature_is_botocores(url: str, region: str, *, token: str | None, body: bytes, signature: str) -> None:
    headers = signed(url, region, token=token, body=body)
    names = "content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
    assert headers["Authorization"] == (
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260301/{region}/bedrock/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    assert headers["x-amz-date"] == "20260301T120000Z"
    assert headers.get("x-amz-security-token") == token


def test_the_moment_is_written_in_utc_whatever_its_zone() -> None:
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream"
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))
    assert signed(url, "us-east-1", at=elsewhere) == signed(url, "us-east-1")


def test_another_body_has_another_signature() -> None:
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream"
    assert signed(url, "us-east-1", body=b"a") != signed(url, "us-east-1", body=b"b")


def test_the_secret_stands_in_no_header() -> None:
    headers = signed("https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream", "us-east-1")
    assert SECRET not in str(headers)
