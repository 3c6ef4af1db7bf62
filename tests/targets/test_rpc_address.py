"""Names of machines behind TVM's RPC."""

from __future__ import annotations

import pytest

from edgeir.errors import EdgeIRError
from edgeir.targets.rpc_address import RpcAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rpc://10.0.0.7:9090/pi4", RpcAddress("10.0.0.7", 9090, "pi4")),
        ("rpc://board.local:9090", RpcAddress("board.local", 9090)),
        ("rpc://[::1]:9090/key", RpcAddress("::1", 9090, "key")),
        ("tracker://localhost:9190/pi-4.b", RpcAddress("localhost", 9190, "pi-4.b", is_tracker=True)),
    ],
)
def test_text_and_address(text: str, address: RpcAddress) -> None:
    assert RpcAddress.parse(text, "--on") == address
    assert str(address) == text


def test_a_slash_without_a_key_is_no_key() -> None:
    assert RpcAddress.parse("rpc://a:1/", "--on") == RpcAddress("a", 1)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "rpc://",
            "rpc://host",
            "rpc://host:0",
            "rpc://host:99999",
            "rpc://a:b/c",
            "rpc://:9090/key",
            "rpc://h:1/a/b",
        ),
        *("tracker://h:1", "tracker://h:1/", "http://h:1/k", "rpc://h:1/k\n", "rpc://[::1:9/k", "rpc://h:1/k k"),
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(EdgeIRError, match="not a device") as caught:
        RpcAddress.parse(text, "--on", "local")
    assert caught.value.where == "--on" and caught.value.got == text
    assert all(form in str(caught.value.expected) for form in ("local, ", "rpc://", "tracker://"))
