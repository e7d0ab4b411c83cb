"""设置文件 /etc/scns-conductor/config.toml：缺什么补什么，已有的一个字也不动。"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scns_conductor.local.setup.machine import SETTINGS_DIR, write_file
from scns_conductor.local.setup.steps import SetupFailed, Step

SETTINGS_FILE = SETTINGS_DIR / "config.toml"
# 命令从这里知道系统在哪里：谁都能读，没有令牌。
CLIENT_FILE = SETTINGS_DIR / "client.json"


def read_settings(path: Path = SETTINGS_FILE) -> dict[str, Any]:
    """现有的设置；没有文件是空的，写坏了抛 SetupFailed。"""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SetupFailed(f"读不了 {path}：{error.strerror}；请用 sudo scns setup …") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupFailed(f"{path} 不是合法的 TOML：{error}；请改好再来") from error


def settings_step(wanted: Mapping[str, str], group: str, path: Path = SETTINGS_FILE) -> Step:
    """文件里都有这些键；里面有口令，所以只有 root 与 group 能读。"""

    def missing() -> dict[str, str]:
        present = read_settings(path)
        return {name: value for name, value in wanted.items() if name not in present}

    def right() -> bool:
        found = path.stat() if path.is_file() else None
        return found is not None and not missing() and found.st_mode & 0o7777 == 0o640 and path.group() == group

    def make() -> None:
        # 顶层的键要写在各个表的前面；JSON 的字符串就是 TOML 的基本字符串。
        added = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in missing().items())
        kept = path.read_text(encoding="utf-8") if path.is_file() else ""
        write_file(path, added + kept, 0o640, group=group)

    title = f"设置文件 {path}（{'、'.join(wanted)}）" if wanted else f"设置文件 {path}（0640，{group} 读得到）"
    return Step(title, right, make, (f"写 {path}，0640，root:{group}",))


def client_step(api_url: str, path: Path = CLIENT_FILE) -> Step:
    """本机的 scns、sbatch 等命令从它知道 API 的地址。"""
    text = json.dumps({"url": api_url}) + "\n"
    return Step(
        f"{path}（命令用的地址 {api_url}）",
        lambda: path.is_file() and path.read_text(encoding="utf-8") == text,
        lambda: write_file(path, text, 0o644),
        (f"echo '{text.strip()}' > {path}",),
    )
