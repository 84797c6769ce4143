"""TLS for the simulator, on this machine alone.

The private key beside this file is published with the program: it keeps no secret and proves nothing, and is good for
nothing but a server on the loopback of a test. The certificate names localhost, 127.0.0.1 and ::1, can sign no other
(CA:FALSE), and is trusted by whoever names it in SSL_CERT_FILE, as `isochrone-agent selftest` does for itself.
"""

import ssl
from pathlib import Path
from typing import Final

LOOPBACK_PEM: Final = Path(__file__).with_name("loopback.pem")
"""Certificate and key."""


def server_context() -> ssl.SSLContext:
    """Return what a server on loopback shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(LOOPBACK_PEM)
    context.set_alpn_protocols(["http/1.1"])
    return context
