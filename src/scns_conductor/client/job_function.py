"""@job(cpus=4, memory="8G", time_limit="1h")：调用在本地跑，.submit() 在集群上跑。

要 pip install 'scns-conductor[executor]'。
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

from scns_conductor.client.executor import ConductorExecutor
from scns_conductor.client.job_future import JobFuture

P = ParamSpec("P")
T = TypeVar("T")
_UNIT_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SHORT_TIME = re.compile(r"(?:\d+[dhms])+", re.IGNORECASE)

_shared: ConductorExecutor | None = None
_shared_lock = threading.Lock()


def shared_executor() -> ConductorExecutor:
    """没有指明执行器的函数共用的一个：只经 API。程序结束时作业照常跑，凭它的 name 找得回。"""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = ConductorExecutor()
        return _shared


def time_limit_text(given: str | int) -> str:
    """时限：1h、90m、1d12h、30s 之类换成 Slurm 的 分:秒；别的（分钟、时:分:秒、天-时）照原样。"""
    word = str(given).strip()
    if not _SHORT_TIME.fullmatch(word):
        return word
    seconds = sum(int(number) * _UNIT_S[unit.lower()] for number, unit in re.findall(r"(\d+)([dhmsDHMS])", word))
    return f"{seconds // 60}:{seconds % 60:02d}"


class JobFunction(Generic[P, T]):
    """一个函数和它跑成作业时的要求。"""

    # update_wrapper 由函数抄来。
    __name__: str

    def __init__(
        self, function: Callable[P, T], resources: Mapping[str, Any], executor: ConductorExecutor | None = None
    ) -> None:
        self.function, self.resources, self._executor = function, dict(resources), executor
        update_wrapper(self, function)

    @property
    def executor(self) -> ConductorExecutor:
        """在哪个执行器上跑。"""
        return self._executor or shared_executor()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.function(*args, **kwargs)

    def submit(self, /, *args: Any, **kwargs: Any) -> JobFuture[T]:
        """提交一个作业；参数里可以有别的 Future，到了节点上换成它的结果。错误同 ConductorExecutor.submit。"""
        return self.executor.submit(_call, self.function, args, kwargs, resources=self.resources)

    def map(self, /, *iterables: Iterable[Any], chunksize: int = 1, timeout: float | None = None) -> Iterator[T]:
        """全部调用是一个作业数组，结果的次序同参数。timeout 是秒。"""
        return self.executor.map(
            self.function, *iterables, chunksize=chunksize, timeout=timeout, resources=self.resources
        )

    def options(self, *, executor: ConductorExecutor | None = None, **wanted: Any) -> "JobFunction[P, T]":
        """同一个函数，换几样要求（写法同 job）。"""
        return JobFunction(self.function, {**self.resources, **resources_of(**wanted)}, executor or self._executor)

    def __reduce__(self) -> tuple[Any, ...]:
        # 到了节点上就是普通的函数。
        return JobFunction, (self.function, self.resources)


def _call(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    return function(*args, **kwargs)


def resources_of(
    *,
    cpus: int | None = None,
    memory: str | int | None = None,
    time_limit: str | int | None = None,
    gpus: int | str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """短的写法 -> 提交的字段；其余的照 POST /jobs/submit 的名字。"""
    short = {
        "cpus_per_task": cpus,
        "memory_per_node": None if memory is None else str(memory),
        "time_limit": None if time_limit is None else time_limit_text(time_limit),
        "tres_per_job": None if gpus is None else f"gres/gpu:{gpus}",
    }
    return {**{name: value for name, value in short.items() if value is not None}, **fields}


def job(
    *,
    cpus: int | None = None,
    memory: str | int | None = None,
    time_limit: str | int | None = None,
    gpus: int | str | None = None,
    executor: ConductorExecutor | None = None,
    **fields: Any,
) -> Callable[[Callable[P, T]], JobFunction[P, T]]:
    """把函数变成本地可调用、.submit() 在集群上跑的。

    cpus 个 CPU；memory 如 "8G"（不写单位是 MiB）；time_limit 如 "1h"、"30m"、"1d12h"，或 Slurm 的写法；
    gpus 如 2、"a100:2"。其余的是提交的字段，如 partition="gpu"。executor 缺省是 shared_executor()。
    """
    wanted = resources_of(cpus=cpus, memory=memory, time_limit=time_limit, gpus=gpus, **fields)
    return lambda function: JobFunction(function, wanted, executor)
