"""Who asks, as far as an address tells."""

import ipaddress
from functools import lru_cache

from starlette.types import Scope

MOST = 10_000  # clients that are remembered; the one that has asked for nothing the longest is forgotten first


def client_of(scope: Scope) -> str:
    """Who asks: an address, of IPv6 the network, all of which one client commands."""
    client = scope.get("client")
    return _network(client[0]) if client else "unknown"


@lru_cache(maxsize=MOST)
def _network(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


@lru_cache(maxsize=MOST)
def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
