"""替用户往外连时，哪些地址不许连：本机、内网、链路本地、云的元数据服务（SSRF）。纯函数。"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

# 写法是公网的，其实是云的内部服务：Azure 的主机代理、甲骨文云的元数据。
_INTERNAL = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
_NAT64 = IPv6Network("64:ff9b::/96")


def refusal(address: Address, allowed: Networks) -> str | None:
    """不许连的原因；许连的返回 None。allowed 是管理员许了的网段。"""
    faces = _faces(address)
    if any(face.version == network.version and face in network for face in faces for network in allowed):
        return None
    if all(_public(face) for face in faces):
        return None
    return f"{address} 是本机或内网的地址，不许连；请管理员把网段写进 webhook_allowed_networks"


def _public(address: Address) -> bool:
    if address.version == 4 and any(address in network for network in _INTERNAL):
        return False
    odd = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    if isinstance(address, IPv6Address):
        # fec0::/10，早已不用的站内地址：ipaddress 当它是公网的。
        odd = odd or address.is_site_local
    return address.is_global and not odd


def _faces(address: Address) -> list[Address]:
    """这个地址，或它里面包着的 IPv4：::ffff:127.0.0.1 就是 127.0.0.1。"""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    return [address]
