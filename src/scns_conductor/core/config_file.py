"""设置文件与数据目录在哪里。

TOML 文件是 SCNS_CONFIG（scns --config）所指的；没有指就依次找数据目录下的 config.toml、
/etc/scns-conductor/config.toml。当前目录从来不看：谁都能在那里放一个文件。
"""

import os
from pathlib import Path

from scns_conductor.core.errors import SettingsError

CONFIG_NAME = "config.toml"
SYSTEM_CONFIG = Path("/etc/scns-conductor") / CONFIG_NAME


def config_file() -> Path | None:
    """正在使用的 TOML 文件；没有则为 None。读不了的、指了却不存在的、可能是别人放的抛 SettingsError。"""
    named = os.environ.get("SCNS_CONFIG")
    if named:
        if not _readable(Path(named)):
            raise SettingsError(f"所指的设置文件不存在：{named}（scns --config 或 SCNS_CONFIG）")
        return Path(named)
    own = Path(os.environ.get("SCNS_DATA_DIR") or default_data_dir()) / CONFIG_NAME
    if _readable(own):
        found = own.stat()
        # 数据目录可以归跑服务的普通用户所有：root 不照着他写的运行。
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise SettingsError(f"设置文件 {own} 别人能改，不能用；请改成自己的，并 chmod go-w {own}")
        return own
    return SYSTEM_CONFIG if _readable(SYSTEM_CONFIG) else None


def _readable(path: Path) -> bool:
    """在且读得了；不在返回 False，在而读不了抛 SettingsError。"""
    try:
        open(path, "rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SettingsError(
            f"读不了设置文件 {path}：{error.strerror}；请换成读得了的用户，"
            "或用 scns --config 另指一个（--config /dev/null 是不用任何文件）"
        ) from error
    return True


def default_data_dir() -> Path:
    """root 用 /var/lib/scns-conductor，普通用户用 ~/.local/share/scns-conductor。"""
    if os.geteuid() == 0:
        return Path("/var/lib/scns-conductor")
    return Path.home() / ".local/share/scns-conductor"
