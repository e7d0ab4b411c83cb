"""joblib 的后端 scns：import 之后 Parallel(backend="scns")，或 with parallel_config("scns", cpus=4)。

每批调用是一个作业；n_jobs 是同时几个，-1 是系统里全部的 CPU。
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.parallel import ParallelBackendBase, register_parallel_backend

from scns_conductor.client.executor import ConductorExecutor
from scns_conductor.client.job_function import resources_of

__all__ = ["ConductorBackend"]


class ConductorBackend(ParallelBackendBase):
    """用 ConductorExecutor 跑 joblib 的各批调用。

    folder、client、executor 是怎样跑（同 ConductorExecutor，executor 是现成的）；其余的是作业的要求，
    写法同 @job（cpus、memory、time_limit、partition……）。
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = False

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        folder: str | None = None,
        client: Any = None,
        executor: ConductorExecutor | None = None,
        **resources: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level or 0, inner_max_num_threads=inner_max_num_threads)
        self._given = executor
        self._options = {"folder": folder, "client": client}
        self._resources = resources_of(**resources)
        self._executor: ConductorExecutor | None = None
        self._running: set[Future[Any]] = set()

    def configure(self, n_jobs: int = 1, parallel: Any = None, **backend_kwargs: Any) -> int:
        """开始：起一个执行器。"""
        self.parallel = parallel
        if self._executor is None:
            self._executor = self._given or ConductorExecutor(**self._options)
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """同时几个；负数照 joblib：-1 是全部的 CPU，-2 是少一个。"""
        if n_jobs == 0:
            raise ValueError("n_jobs 不能是 0")
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        executor = self._executor or self._given or ConductorExecutor(**self._options)
        cpus = sum(node.cpus for node in executor.client.nodes())
        return max(1, cpus + 1 + (n_jobs or -1))

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """一批调用是一个作业。"""
        assert self._executor is not None
        future = self._executor.submit(func, resources=self._resources)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """结果；是异常就抛出。"""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """有一个抛了异常：别的都取消。"""
        for future in list(self._running):
            future.cancel()

    def terminate(self) -> None:
        """完了。"""
        if self._executor is not None and self._executor is not self._given:
            self._executor.shutdown(wait=False)
        self._executor = None


register_parallel_backend("scns", ConductorBackend)
