"""在节点上做 ConductorExecutor 的一个调用。

有共用的目录：python -m scns_conductor.remote_call 目录 号 [第几个]，读 号.call，写 号.result；先写旁边再改名，
所以重新排队之后再做一遍也只有一个完整的结果。
没有：本文件的原文与调用都写在作业的脚本里（BOOT 读出来），结果装在一个框里写到标准输出的末尾，经 API 取。
不在 client 里：每个调用要起一个 Python，少导入一个客户端快几倍。
"""

import base64
import io
import json
import os
import pickle
import re
import sys
import tempfile
import traceback
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GOOD, BAD = b"+", b"-"
# 脚本的第三行起：说明、本文件的原文、函数、各个任务的参数；各是一行，后三种是 base64 的 zlib。
# 没有装本系统的也要有上一层的模块：pickle 按全名找异常的类型。
BOOT = (
    'import base64,importlib.util,sys,types,zlib;p="scns_conductor";'
    "importlib.util.find_spec(p) or sys.modules.setdefault(p,types.ModuleType(p));"
    'n=p+".remote_call";m=sys.modules[n]=types.ModuleType(n);'
    'l=open(sys.argv[1],"rb").read().split(b"\\n");'
    'exec(compile(zlib.decompress(base64.b64decode(l[3])),n,"exec"),m.__dict__);'
    "sys.exit(m.from_script(l,int(sys.argv[2] or 0)))"
)
_FRAME = re.compile(rb"\n--scns-result (\S+) (\d+)\n([A-Za-z0-9+/=]*)\n")


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


def packed(data: bytes) -> bytes:
    """一行文字装得下的样子。"""
    return base64.b64encode(zlib.compress(data, 1))


def unpacked(line: bytes) -> bytes:
    """packed 的反面。"""
    return zlib.decompress(base64.b64decode(line))


def framed(number: str, data: bytes) -> bytes:
    """写到标准输出末尾的一个框。"""
    line = packed(data)
    return b"\n--scns-result %s %d\n%s\n" % (number.encode(), len(line), line)


def unframed(output: bytes, number: str) -> bytes | None:
    """输出里这个号的结果；没有、没写完是 None；重新排队做了几遍的是最后一遍的。"""
    found = None
    for each in _FRAME.finditer(output):
        if each[1] == number.encode() and len(each[3]) == int(each[2]):
            found = unpacked(each[3])
    return found


def without_frames(output: bytes) -> bytes:
    """只要 print 出来的。"""
    return _FRAME.sub(b"", output)


def write_whole(path: Path, *parts: bytes) -> None:
    """整个地写下：别人看到的要么没有，要么是全的。"""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as stream:
        for part in parts:
            stream.write(part)
    os.replace(name, path)


class _Unboxer(pickle.Unpickler):
    """参数里别的调用的 Future 换成它的结果；那个调用的异常在这里抛出。"""

    def persistent_load(self, pid: Any) -> Any:
        number, job_id, folder = pid
        if folder is not None:
            return read_result((Path(folder) / f"{number}.result").read_bytes())
        from scns_conductor.client import Client

        with Client(patience_s=60, reconnect_s=60) as client:
            data = unframed(client.output(job_id), number)
        if data is None:
            raise RemoteFailure(f"依赖的作业 {job_id} 没有留下结果")
        return read_result(data)


def _loaded(data: bytes) -> Any:
    return _Unboxer(io.BytesIO(data)).load()


def perform(head: Mapping[str, Any], function_data: bytes, arguments: bytes) -> tuple[bytes, bytes]:
    """做一个调用，返回（好坏，内容）。"""
    here = list(sys.version_info[:2])
    if head["python"] != here:
        theirs = ".".join(map(str, head["python"]))
        told = f"节点上的 Python 是 {here[0]}.{here[1]}，提交的是 {theirs}；请用同一个版本"
        return BAD, pickle.dumps((RemoteFailure(told), ""))
    try:
        # 先看有没有：函数往往也要它才拆得开。
        dumps = pickler().dumps
        function = _loaded(function_data)
        if head["each"]:
            result = [function(*words) for words in _loaded(arguments)]
        else:
            words, named = _loaded(arguments)
            result = function(*words, **named)
        data = dumps(result)
    except BaseException as error:
        return BAD, _boxed(error, traceback.format_exc())
    if len(data) > head["most_bytes"]:
        told = f"结果有 {len(data)} 字节，超过上限 {head['most_bytes']}；请写到文件里，返回路径"
        return BAD, pickle.dumps((RemoteFailure(told), ""))
    return GOOD, data


def _boxed(error: BaseException, trace: str) -> bytes:
    try:
        data: bytes = pickler().dumps((error, trace))
        pickle.loads(data)
    except Exception:  # 异常自己装不了箱：只带回文字
        told = str(error) if isinstance(error, RemoteFailure) else f"{type(error).__name__}：{error}"
        data = pickle.dumps((RemoteFailure(told), trace))
    return data


def read_result(data: bytes) -> Any:
    """结果；是异常就抛出，远处的调用栈在 __cause__ 里。"""
    if data[:1] == GOOD:
        return pickle.loads(data[1:])
    error, trace = pickle.loads(data[1:])
    if trace:
        error.__cause__ = RemoteTraceback(trace)
    raise error


def from_folder(folder: str, number: str, index: str | None = None) -> int:
    """号.call 是一行说明，之后依次是函数与各个任务的参数。返回退出码：调用抛了异常是 1，作业就是 FAILED。"""
    place = Path(folder)
    which = 1 + int(index or 0)
    with open(place / f"{number}.call", "rb") as stream:
        head = json.loads(stream.readline())
        sizes: list[int] = head["sizes"]
        start = stream.tell()
        function_data = stream.read(sizes[0])
        stream.seek(start + sum(sizes[:which]))
        arguments = stream.read(sizes[which])
    good, data = perform(head, function_data, arguments)
    write_whole(place / f"{number if index is None else f'{number}-{index}'}.result", good, data)
    return 0 if good == GOOD else 1


def from_script(lines: list[bytes], index: int) -> int:
    """lines 是脚本的各行。返回退出码。"""
    head = json.loads(lines[2][1:])
    good, data = perform(head, unpacked(lines[4]), unpacked(lines[5 + index]))
    number = f"{head['number']}-{index}" if head["each"] else head["number"]
    sys.stdout.flush()
    sys.stderr.flush()
    frame = framed(number, good + data)
    while frame:
        frame = frame[os.write(1, frame) :]
    return 0 if good == GOOD else 1


if __name__ == "__main__":
    # 异常的类型要在这个模块里，不在 __main__ 里，驱动程序才拆得开。
    from scns_conductor import remote_call

    sys.exit(remote_call.from_folder(*sys.argv[1:4]))
