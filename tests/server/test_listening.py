from __future__ import annotations

import pytest

from nnunet_active.server.listening import open_socket
from nnunet_active.util.errors import ActiveError


def test_a_port_of_its_own_is_found_and_a_taken_one_is_said():
    with open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert port > 0
        with pytest.raises(ActiveError, match=f"Nothing can listen at 127.0.0.1, port {port}"):
            open_socket("127.0.0.1", port)


def test_an_address_of_another_machine_is_said():
    with pytest.raises(ActiveError, match="name another --port or --host"):
        open_socket("192.0.2.1", 0)
