"""一份只读的设置：读与核对在 fork 出来的进程里做，它做完就走，pydantic 不留在这个进程里（约 20 MiB）。

给每个节点都有一份的进程（代理）用；名字、类型、缺省值都是 Settings 的。
"""

import os
import pickle
import traceback
from typing import TYPE_CHECKING, Any, cast

from scns_conductor.core.errors import SettingsError

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings


class Secret:
    """不印出来的文字，同 pydantic 的 SecretStr。"""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """原文。"""
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"


class SettingsSnapshot:
    """Settings 的各项与由它们算出的（属性）；改不了。"""

    def __init__(self, values: dict[str, Any]) -> None:
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def read_settings() -> "Settings":
    """同 load_settings：有误时抛 SettingsError。只在还没有别的线程时调用。"""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # 无论怎样都不能回到调用者那里去。
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as stream:
                stream.write(pickle.dumps(_read()))
            code = 0
        except BrokenPipeError:
            # 调用者刚被停下，没有人要了。
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    if not told:
        raise SettingsError("读设置的进程意外结束了，经过在上面的日志里")
    found = pickle.loads(told)
    if isinstance(found, str):
        raise SettingsError(found)
    return cast("Settings", SettingsSnapshot(found))


def _read() -> dict[str, Any] | str:
    """各项的值，或说明为什么不行。"""
    from pydantic import SecretStr

    from scns_conductor.core.settings import Settings, load_settings

    try:
        settings = load_settings()
        own = [each for each in Settings.__mro__ if each.__module__.startswith("scns_conductor.")]
        computed = [name for each in own for name, kind in vars(each).items() if isinstance(kind, property)]
        found = {name: getattr(settings, name) for name in (*Settings.model_fields, *computed)}
    except SettingsError as error:
        return str(error)
    return {
        name: Secret(value.get_secret_value()) if isinstance(value, SecretStr) else value
        for name, value in found.items()
    }
