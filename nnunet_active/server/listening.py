"""The socket that the server listens at, opened before anything is promised."""

from __future__ import annotations

import socket

from nnunet_active.util.errors import ActiveError


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; its name tells the port where 0 was asked for.

    Raises:
        ActiveError: somebody else listens there, or the address is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(64)  # whoever comes before the server has started waits
        except OSError:
            opened.close()
            raise
    except OSError as error:
        raise ActiveError(
            f"Nothing can listen at {host}, port {port} ({error.strerror or error}); name another --port or --host."
        ) from error
    return opened
