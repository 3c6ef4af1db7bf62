"""Operating systems, as LLVM triples name them."""

from __future__ import annotations

_SYSTEMS = {
    "linux": "linux",
    "darwin": "darwin",
    "macos": "darwin",
    "windows": "windows",
    "freebsd": "freebsd",
    "wasi": "wasi",
    "emscripten": "emscripten",
}


def system_of(triple: str) -> str:
    """`platform.system()` in lower case for an LLVM triple; "" where the triple does not say."""
    for part in triple.lower().split("-")[1:]:
        for word, system in _SYSTEMS.items():
            if part.startswith(word):
                return system
    return ""
