"""系统在哪里、用什么令牌。

依次找：SCNS_URL 与 SCNS_TOKEN；SCNS_DATA_DIR 下的 client.json；缺省数据目录下的 client.json；
~/.config/scns-conductor/client.json；/etc/scns-conductor/client.json。
client.json 由 scns up、scns login、scns token --install 写下：
{"url", "token"}，0600；/etc 里的由 scns setup 写下，只有地址。
没有令牌而本机有 API 的套接字，就用它：是谁由内核说，不用令牌（SCNS_URL=unix:///路径 是指明用它）。
在作业里、没有别的令牌时用 SCNS_JOB_TOKEN。
"""

import json
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from scns_conductor.client.problem import EndpointUnknown

CLIENT_FILE = "client.json"
SYSTEM_FILE = "/etc/scns-conductor/client.json"
# 与 scns setup 写进设置的 api_socket 相同。
LOCAL_SOCKET = "/run/scns-conductor/api.sock"


class Endpoint(NamedTuple):
    """API 的地址与令牌；source 说明取自哪里。"""

    url: str
    token: str | None
    source: str

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.source!r})"


def client_files(environment: Mapping[str, str]) -> list[str]:
    """可能有 client.json 的地方，先后为序。指明了 SCNS_DATA_DIR 就只看那里，免得误连到别的系统。"""
    named = environment.get("SCNS_DATA_DIR")
    if named:
        return [os.path.join(named, CLIENT_FILE)]
    home = environment.get("HOME") or os.path.expanduser("~")
    # 与 core.config_file.default_data_dir 相同；那里要导入 pydantic，命令就慢了。
    data_dir = "/var/lib/scns-conductor" if os.geteuid() == 0 else os.path.join(home, ".local/share/scns-conductor")
    own = [os.path.join(data_dir, CLIENT_FILE), os.path.join(home, ".config/scns-conductor", CLIENT_FILE)]
    return [*own, SYSTEM_FILE]


def read_client_file(path: str) -> Endpoint | None:
    """读一个 client.json；不存在或看不见返回 None，内容不对抛 EndpointUnknown。"""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
        token = found.get("token")
        return Endpoint(str(found["url"]).rstrip("/"), None if token is None else str(token), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise EndpointUnknown(f"{path} 的内容不对，应为 {{url, token}}；重新启动 scns up 会写好它") from error


def find_endpoint(environment: Mapping[str, str] = os.environ) -> Endpoint:
    """找到系统；找不到抛 EndpointUnknown，说明怎么办。"""
    url, token = environment.get("SCNS_URL"), environment.get("SCNS_TOKEN")
    if url and token:
        return Endpoint(url.rstrip("/"), token, "SCNS_URL")
    files = client_files(environment)
    found = [endpoint for path in files if (endpoint := read_client_file(path)) is not None]
    if url:
        # 文件里的令牌只交给写它的那个系统，不送到别处去。
        same = next((each.token for each in found if each.url == url.rstrip("/") and each.token), None)
        # 在作业里：节点给了地址，也给了只在作业运行时有效的令牌。
        return Endpoint(url.rstrip("/"), same or environment.get("SCNS_JOB_TOKEN"), "SCNS_URL")
    local = None if token or environment.get("SCNS_DATA_DIR") else local_endpoint()
    if local is not None and (not found or found[0].token is None):
        return local
    if not found:
        raise EndpointUnknown(
            f"找不到正在运行的系统（没有 {files[0]}）；"
            "请先 scns up，或设置 SCNS_URL 与 SCNS_TOKEN，或用 SCNS_DATA_DIR 指明数据目录"
        )
    return found[0] if not token else Endpoint(found[0].url, token, found[0].source)


def own_file(environment: Mapping[str, str]) -> str:
    """scns login 写在哪里。"""
    home = environment.get("HOME") or os.path.expanduser("~")
    return os.path.join(home, ".config/scns-conductor", CLIENT_FILE)


def write_client_file(path: str, url: str, token: str | None) -> None:
    """写 client.json，从一开始就是 0600；写不了抛 EndpointUnknown。token 为 None 只留地址。"""
    fresh = f"{path}.new"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump({"url": url} | ({} if token is None else {"token": token}), file)
        os.rename(fresh, path)
    except OSError as error:
        raise EndpointUnknown(f"写不了 {path}：{error.strerror}；请检查家目录") from error


def local_endpoint() -> Endpoint | None:
    """本机的套接字；没有是 None。"""
    try:
        return (
            Endpoint(f"unix://{LOCAL_SOCKET}", None, LOCAL_SOCKET)
            if stat.S_ISSOCK(os.stat(LOCAL_SOCKET).st_mode)
            else None
        )
    except OSError:
        return None
