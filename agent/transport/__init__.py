"""The only door to sockets, TLS and HTTP: resolve, dial one address, kernel timestamps, TCP_INFO.

    resolve -> connect -> secure -> HttpConnection.request -> Answer.chunks
    (dns)      (tcp)      (tls)     (request, headers)        (arrivals)

Foreign errors become `Failure` here, once.
"""

from agent.config import Origin, parse_origin
from agent.transport.arrival import Arrival
from agent.transport.collector import CollectorClient, Response
from agent.transport.departure import Departure
from agent.transport.dial import Address, Stream, connect, resolve, secure
from agent.transport.failure import Failure
from agent.transport.http import Answer, Chunk, HttpConnection, prepare
from agent.transport.icmp import EchoSocket
from agent.transport.loop import AgentLoop
from agent.transport.tls import TlsStream, tls_context

__all__ = [
    "Address",
    "AgentLoop",
    "Answer",
    "Arrival",
    "Chunk",
    "CollectorClient",
    "Departure",
    "EchoSocket",
    "Failure",
    "HttpConnection",
    "Origin",
    "Response",
    "Stream",
    "TlsStream",
    "connect",
    "parse_origin",
    "prepare",
    "resolve",
    "secure",
    "tls_context",
]
