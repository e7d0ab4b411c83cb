"""登录失败之后要等多久：一个用户、一个地址各一本账；连着失败，一次比一次久。记得的个数有上限。"""

from collections import OrderedDict
from dataclasses import dataclass

# 手误不罚：这么多次之内不等。一个地址后面可以有许多人（NAT），宽一些。
FREE_PER_USER = 3
FREE_PER_ADDRESS = 20
# 最久等这么久（秒）：别人拿你的名字乱试，也拦不住你太久。
MOST_USER_S = 30.0
MOST_ADDRESS_S = 60.0
# 这么久没有再失败，从头算（秒）。
FORGOTTEN_S = 900.0
REMEMBERED = 10_000


@dataclass(slots=True)
class _Account:
    failures: int
    until: float
    seen: float


class LoginDelays:
    """时刻都是单调钟的秒，由用的人给。"""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._accounts: OrderedDict[tuple[str, str], _Account] = OrderedDict()
        self._remembered = remembered

    def wait_s(self, user_name: str, address: str, now: float) -> float:
        """还要等几秒才许试；0 是现在就行。"""
        found = (self._known(key, now) for key in (("user", user_name), ("address", address)))
        return max((account.until - now for account in found if account is not None), default=0.0)

    def charge(self, user_name: str, address: str, now: float) -> None:
        """先当作失败记下：同时来的许多次，不能都赶在第一次的结果之前。"""
        self._fail(("user", user_name), FREE_PER_USER, MOST_USER_S, now)
        self._fail(("address", address), FREE_PER_ADDRESS, MOST_ADDRESS_S, now)

    def succeeded(self, user_name: str, address: str) -> None:
        """用户的账清掉；地址的只退这一次：有一个自己的账号，洗不掉在别人那里的失败。"""
        self._accounts.pop(("user", user_name), None)
        account = self._accounts.get(("address", address))
        if account is not None:
            account.failures = max(0, account.failures - 1)

    def _fail(self, key: tuple[str, str], free: int, most_s: float, now: float) -> None:
        account = self._known(key, now) or _Account(0, now, now)
        account.failures += 1
        account.seen = now
        if account.failures > free:
            account.until = now + min(most_s, 2.0 ** min(account.failures - free - 1, 10))
        self._accounts[key] = account
        self._accounts.move_to_end(key)
        while len(self._accounts) > self._remembered:
            self._accounts.popitem(last=False)

    def _known(self, key: tuple[str, str], now: float) -> _Account | None:
        account = self._accounts.get(key)
        if account is not None and now - account.seen > FORGOTTEN_S:
            del self._accounts[key]
            return None
        return account
