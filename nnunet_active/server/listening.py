"""Opens the server's socket, before the user is told that the server is ready."""

from __future__ import annotations

import socket

from nnunet_active.util.errors import ActiveError


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at an address. If port 0 was asked for, the socket's name tells the actual port.

    Raises:
        ActiveError: another process listens there, or this machine does not have the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(64)  # clients that connect before the server has started have to wait
        except OSError:
            opened.close()
            raise
    except OSError as error:
        raise ActiveError(
            f"Nothing can listen at {host}, port {port} ({error.strerror or error}); name another --port or --host."
        ) from error
    return opened
