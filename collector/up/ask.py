"""What `up` asks over the network: is a port free, does something listen, what does the collector say."""

import asyncio
import http.client
import socket
from contextlib import closing, suppress
from ipaddress import ip_address
from typing import Final

from collector.config import Listen
from collector.errors import SettingsError

TIMEOUT_SECONDS: Final = 2.0


def reserve(listen: Listen) -> Listen:
    """Return `listen` with a real port for 0; raise SettingsError when it cannot be listened on.

    The port is free again afterwards: the child that shall have it opens it itself.
    """
    try:
        family, *_, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return Listen(listen.host, trial.getsockname()[1])
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise SettingsError(
            f"--listen {listen}: {reason}: choose another address or port, as in --listen 127.0.0.1:8421"
        ) from exc


def is_loopback(listen: Listen) -> bool:
    """Return whether only this machine reaches what listens there."""
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


async def listens(listen: Listen) -> bool:
    """Return whether something accepts connections there."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(listen.host, listen.port), TIMEOUT_SECONDS)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def get(listen: Listen, path: str, *, token: str | None = None) -> bytes | None:
    """Return the body of a 200 answer; None for anything else, silence included."""
    return await asyncio.to_thread(_get, listen, path, token)


def _get(listen: Listen, path: str, token: str | None) -> bytes | None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with closing(http.client.HTTPConnection(listen.host, listen.port, timeout=TIMEOUT_SECONDS)) as connection:
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        return body if answer.status == http.HTTPStatus.OK else None
