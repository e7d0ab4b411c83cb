"""对本节点的作业做事：启动、纠正、发信号、上报。全部在代理的控制线程里，一件一件来，没有竞争。

启动：认领（job_launches）→ 备好（job_preparation）→ 送去（launch_sending）；纠正在 correction，上报在 job_reports。
"""

import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy.engine import Engine

from scns_conductor.worker.agent.core_binding import CorePool
from scns_conductor.worker.agent.correction import Correction
from scns_conductor.worker.agent.database_memory import DatabaseMemory
from scns_conductor.worker.agent.finisher import Finisher
from scns_conductor.worker.agent.job_launches import JobLaunches
from scns_conductor.worker.agent.job_preparation import JobPreparation
from scns_conductor.worker.agent.job_reports import JobReports
from scns_conductor.worker.agent.job_samples import JobSamples
from scns_conductor.worker.agent.job_traces import JobTraces
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused
from scns_conductor.worker.agent.launch_sending import LaunchSending
from scns_conductor.worker.agent.own_ends import OwnEnds
from scns_conductor.worker.agent.reconcile import HeldAllocation, held_allocations
from scns_conductor.worker.agent.relay import Relay
from scns_conductor.worker.agent.shepherd_client import ShepherdError
from scns_conductor.worker.agent.shepherd_set import ShepherdSet
from scns_conductor.worker.agent.step_launches import JobSteps
from scns_conductor.worker.agent.timings import AgentTimings
from scns_conductor.worker.wire.bus_messages import LaunchStep
from scns_conductor.worker.wire.launch_spec import ATTACH_SIGNAL
from scns_conductor.worker.wire.shepherd_messages import Named
from scns_conductor.worker.wire.step_spec import ClientAddress

logger = logging.getLogger(__name__)

# 核、卡还没有空出来（前一个作业的结束正在提交，多节点作业的别处刚结束）：隔这么久再看一次。
AGAIN_S = 0.2


class JobControl:
    """client 取当前的牧守进程；enqueue 把一件事排到控制线程。boot_time 是数据库时钟下的开机时刻。"""

    def __init__(
        self,
        engine: Engine,
        context: LaunchContext,
        pool: CorePool,
        finisher: Finisher,
        *,
        boot_id: str,
        boot_time: Callable[[], float],
        sample_interval_s: float,
        gpu: Callable[[tuple[int, int]], tuple[float, int, float | None] | None],
        timings: AgentTimings,
        traces: JobTraces,
        memory: DatabaseMemory,
        client: Callable[[], ShepherdSet],
        enqueue: Callable[[Callable[[], object]], None],
        relay: Relay,
    ) -> None:
        self._engine = engine
        self.relay = relay
        self._node = context.node.node_name
        self._boot_time = boot_time
        self._client = client
        self._enqueue = enqueue
        self._again_at = 0.0
        ends = OwnEnds(boot_id)
        self.steps = JobSteps(engine, context, pool)
        self._sending = LaunchSending(self._node, finisher, ends, client, timings, traces)
        self._preparation = JobPreparation(
            engine, context, finisher, ends, held=self._held, send=self._sending.send, enqueue=enqueue
        )
        samples = JobSamples(engine, self._node, sample_interval_s, boot_time=boot_time, gpu=gpu)
        self._launches = JobLaunches(
            *(engine, context, pool, finisher, ends, memory, self._preparation),
            boot_time=boot_time,
            samples=samples,
            timings=timings,
            traces=traces,
        )
        self._correction = Correction(
            *(engine, context, pool, finisher, ends, memory),
            held=self._held,
            client=client,
            preparation=self._preparation,
            sending=self._sending,
            launches=self._launches,
            steps=self.steps,
            relay=relay,
        )
        reports = JobReports(engine, self._node, self._settled, self.steps, samples, timings)
        self.launch = self._launches.launch
        self.sync = self._correction.sync
        self.settle = self._sending.settle
        self.wait_for_strangers = self._correction.wait_for_strangers
        self.report_processes = reports.report_processes
        self.sample = reports.sample
        self.sample_every_s = samples.every_s
        self.answer_sampled = reports.answer_sampled

    def launch_successors(self) -> None:
        """启动接力写下的：已经认领，核也接过来了。"""
        self._launches.launch_claimed(self.relay.take())

    def give_back_unstarted(self) -> None:
        """要停下了：认领了、还没有启动的交还给队列。"""
        self._preparation.give_back([(job.job_id, job.restart_count) for job in self.relay.close()])

    def due_s(self) -> float | None:
        """还有几秒要做一次 tick；没有要等的返回 None。"""
        folders_s = self._preparation.due_s()
        if not self._launches.roomless and not self._preparation.prepared:
            return folders_s
        again_s = max(0.0, self._again_at - time.monotonic())
        return again_s if folders_s is None else min(again_s, folders_s)

    def tick(self) -> None:
        """等够了的：不答话的目录、上次没有问成数据库的、还没有等到核与卡的。"""
        self._preparation.expire()
        if time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + AGAIN_S
        self._preparation.launch_prepared()
        if self._launches.roomless:
            # 多节点作业在别处结束的，只有数据库知道；核对会归还，再启动没有认领的。
            self.sync(None)

    def room_made(self) -> None:
        """有核、卡归还了（任何线程）：等着的再试一次。"""
        if self._launches.roomless:
            self._enqueue(lambda: self.launch([job_id for job_id, _ in self._launches.roomless]))

    def _settled(self) -> ShepherdSet:
        self.settle()
        return self._client()

    def _held(self, job_ids: Sequence[int] | None) -> list[HeldAllocation]:
        with self._engine.begin() as connection:
            return held_allocations(connection, self._node, job_ids, self._boot_time())

    # ---- 作业步与信号 ----

    def launch_step(self, request: LaunchStep) -> None:
        """启动作业步在本节点上的那一份；同一个键只启动一次，所以消息可以再送。"""
        try:
            spec = self.steps.plan(request)
        except (LaunchRefused, OSError, KeyError, TypeError, ValueError) as error:
            self.steps.refuse(request, str(error))
            return
        try:
            refused = [answer.error for answer in self._settled().launch([spec]) if answer.state == "refused"]
        except ShepherdError as error:
            refused = [str(error)]
        if refused:
            self.steps.refuse(request, f"节点 {self._node} 的牧守进程拒收启动说明：{refused[0]}")

    def attach_step(self, job_id: int, attempt: int, step_id: int, client: ClientAddress) -> None:
        """请作业步的主人再连一个客户：说明写在文件里，用信号告诉它。"""
        self.steps.leave_attachment(job_id, attempt, step_id, client)
        self._settled().signal([(job_id, attempt)], ATTACH_SIGNAL, f"step:{step_id}")

    def signal_step(self, job_id: int, attempt: int, step_id: int, number: int) -> None:
        """给作业步的任务发信号；SIGKILL 连同它的主人一起结束。"""
        self._settled().signal([(job_id, attempt)], number, f"step:{step_id}")

    def limit_step(self, job_id: int, attempt: int, step_id: int, limit_s: float | None) -> None:
        """改作业步自己的时限；旧版的牧守进程不懂，说一声，旧的时限照旧。"""
        try:
            self._settled().set_step_time_limit([(job_id, attempt)], str(step_id), limit_s)
        except ShepherdError as error:
            logger.warning("step_limit_refused", extra={"job_id": job_id, "step_id": step_id, "error": str(error)})

    def signal(self, jobs: Sequence[Named], number: int, target: str) -> None:
        """给这些作业发信号。"""
        self._settled().signal(jobs, number, target)
