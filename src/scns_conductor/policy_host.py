"""站点的提交策略（job_submit 插件）在这个进程里运行，API 经管道问它：插件转圈、崩溃、耗光内存，都只是这个进程的事。

只用标准库，启动要快。一问一答都是 4 字节的长度加 JSON；插件的 print 与日志到标准错误，也就是 API 的日志。

    python -m scns_conductor.policy_host 插件 秒数

插件是文件的路径，或入口点（组 scns_conductor.job_submit）的名字；秒数是一次至多多久，过了由内核结束本进程。
"""

import ctypes
import importlib.metadata
import json
import logging
import os
import resource
import signal
import stat
import struct
import sys
import traceback
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, BinaryIO

GROUP = "scns_conductor.job_submit"
LENGTH = struct.Struct(">I")
# 装入插件可以比一次回答久。
LOAD_S = 10.0
MEMORY_BYTES = 2 * 1024**3
_PR_SET_PDEATHSIG = 1


class Job(dict[str, Any]):
    """作业的要求：job.partition 就是 job["partition"]，没有写的是 None，可以改；名字同 POST /jobs/submit。"""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self[name] = None


def load(place: str) -> Any:
    """插件的模块；别人改得了的文件、没有的入口点、没有要的函数抛 ValueError 等。"""
    if os.sep in place:
        found = os.stat(place)
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ValueError(f"别人能改 {place}，不能用；请改成 root 或运行 API 的用户的，并 chmod go-w")
        # 不经导入：字节码的缓存只看秒与大小，同一秒里改了、一样长的认不出来。
        module: Any = ModuleType("scns_site_policy")
        module.__file__ = place
        sys.modules[module.__name__] = module
        with open(place, "rb") as stream:
            exec(compile(stream.read(), place, "exec"), module.__dict__)
    else:
        points = importlib.metadata.entry_points(group=GROUP, name=place)
        if not points:
            raise ValueError(f"没有叫 {place} 的入口点（组 {GROUP}）；文件要写绝对路径")
        module = next(iter(points)).load()
    if not any(callable(getattr(module, name, None)) for name in ("job_submit", "job_modify")):
        raise ValueError(f"{place} 里没有 job_submit，也没有 job_modify")
    return module


def answer(module: Any, question: Mapping[str, Any]) -> dict[str, Any]:
    """一问的回答：各个作业的 changes（改了的字段）、refused（拒绝的话）或 error；拒绝了一个就不看后面的。"""
    user = SimpleNamespace(**question["user"])
    partitions = {name: SimpleNamespace(**facts) for name, facts in question["partitions"].items()}
    kind = question["kind"]
    function = getattr(module, f"job_{kind}", None)
    results: list[dict[str, Any]] = []
    for asked in question["jobs"]:
        if function is None:
            results.append({"changes": {}})
            continue
        before, job = asked["job"], _copied(asked["job"])
        try:
            if kind == "submit":
                job["script"] = asked["script"]
                said = function(job, user, partitions.get(asked["partition"]))
                if job.pop("script", None) != asked["script"]:
                    raise ValueError("脚本是用户的，不能改")
            else:
                said = function(_copied(asked["current"]), job, user)
            if said is not None and not isinstance(said, str):
                raise TypeError(f"应返回 None（收下）或一句话（拒绝），返回的是 {type(said).__name__}")
        except Exception as error:  # 插件是站点的代码：什么错都可能，说给 API 听
            if not any("error" in result for result in results):
                traceback.print_exc()
            results.append({"error": f"{type(error).__name__}: {error}"})
            continue
        if said is not None:
            return {"results": [*results, {"refused": said}]}
        changed = {name: value for name, value in job.items() if name not in before or before[name] != value}
        changed |= {name: None for name in before if name not in job}
        results.append({"changes": changed})
    return {"results": results}


def _copied(job: Mapping[str, Any]) -> Job:
    """改了里面的表也看得出来。"""
    return Job({name: value.copy() if isinstance(value, dict | list) else value for name, value in job.items()})


def read_frame(stream: BinaryIO) -> Any:
    """读一问；那边关了返回 None。"""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return json.loads(stream.read(LENGTH.unpack(head)[0]))


def write_frame(stream: BinaryIO, value: Any) -> None:
    """写一答。"""
    data = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def main(place: str, limit_s: float) -> None:
    """答到那边关了为止。"""
    # API 没了就跟着走，插件正转着圈也是；管道另留一份，插件的 print 不会搅进回答里。
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="job_submit %(levelname)s %(message)s")
    signal.setitimer(signal.ITIMER_REAL, LOAD_S)
    try:
        module = load(place)
    except Exception as error:  # 装不进来的原因说给 API 听
        traceback.print_exc()
        write_frame(told, {"error": f"{type(error).__name__}: {error}"})
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    write_frame(told, {"ready": True})
    while (question := read_frame(asked)) is not None:
        # API 到时候会杀它；它自己也定着闹钟，API 忙不过来时也停得下。
        signal.setitimer(signal.ITIMER_REAL, question.get("limit_s", limit_s) + 1.0)
        found = answer(module, question)
        signal.setitimer(signal.ITIMER_REAL, 0)
        write_frame(told, found)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
