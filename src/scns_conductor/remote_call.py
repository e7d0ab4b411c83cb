"""在节点上做 ConductorExecutor 的一个调用：python -m scns_conductor.remote_call 目录 号。

目录里是 号.call（说明一行 JSON，之后是函数与参数）；写下 号.result（好坏一个字节，之后是结果或异常）。先写旁边再改名，
所以重新排队之后再做一遍也只有一个完整的结果。
不在 client 里：每个调用要起一个 Python，少导入一个客户端快几倍。
"""

import json
import os
import pickle
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

GOOD, BAD = b"+", b"-"


class RemoteTraceback(Exception):
    """远处的调用栈，作为异常的 __cause__ 带回来。"""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class RemoteFailure(Exception):
    """调用没有结果：Python 的版本不同、结果太大、装不了箱。文字是一行中文。"""


def pickler() -> Any:
    """cloudpickle；没有装抛 RemoteFailure。"""
    try:
        import cloudpickle
    except ImportError as error:
        raise RemoteFailure("没有 cloudpickle；请 pip install 'scns-conductor[executor]'") from error
    return cloudpickle


def write_whole(path: Path, *parts: bytes) -> None:
    """整个地写下：别人看到的要么没有，要么是全的。"""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as stream:
        for part in parts:
            stream.write(part)
    os.replace(name, path)


def perform(call: bytes) -> tuple[bytes, bytes]:
    """做一个调用，返回（好坏，内容）。"""
    head, _, body = call.partition(b"\n")
    wanted = json.loads(head)
    here = list(sys.version_info[:2])
    if wanted["python"] != here:
        theirs = ".".join(map(str, wanted["python"]))
        told = f"节点上的 Python 是 {here[0]}.{here[1]}，提交的是 {theirs}；请用同一个版本"
        return BAD, pickle.dumps((RemoteFailure(told), ""))
    try:
        function, words, named = pickle.loads(body)
        result = function(*words, **named)
        data = pickler().dumps(result)
    except BaseException as error:
        return BAD, _packed(error, traceback.format_exc())
    if len(data) > wanted["most_bytes"]:
        told = f"结果有 {len(data)} 字节，超过上限 {wanted['most_bytes']}；请写到文件里，返回路径"
        return BAD, pickle.dumps((RemoteFailure(told), ""))
    return GOOD, data


def _packed(error: BaseException, trace: str) -> bytes:
    try:
        data: bytes = pickler().dumps((error, trace))
        pickle.loads(data)
    except Exception:  # 异常自己装不了箱：只带回文字
        data = pickle.dumps((RemoteFailure(f"{type(error).__name__}：{error}"), trace))
    return data


def read_result(data: bytes) -> Any:
    """结果；是异常就抛出，远处的调用栈在 __cause__ 里。"""
    if data[:1] == GOOD:
        return pickle.loads(data[1:])
    error, trace = pickle.loads(data[1:])
    if trace:
        error.__cause__ = RemoteTraceback(trace)
    raise error


def main(folder: str, number: str) -> int:
    """返回退出码：调用抛了异常是 1，作业就是 FAILED。"""
    place = Path(folder)
    good, data = perform((place / f"{number}.call").read_bytes())
    write_whole(place / f"{number}.result", good, data)
    return 0 if good == GOOD else 1


if __name__ == "__main__":
    # 异常的类型要在这个模块里，不在 __main__ 里，驱动程序才拆得开。
    from scns_conductor import remote_call

    sys.exit(remote_call.main(*sys.argv[1:3]))
