"""没有进程的节点：一个进程里许多个，走真的总线与真的数据库语句（登记、心跳、核对、认领、结束），作业不花时间就做完。

由 nodes.py 启动：fake_nodes.py --first 1 --count 500 --cpus 8 --url URL；数据库与 Valkey 的地址取自环境变量。
SIGTERM 停下。省去的只有牧守进程与启动作业本身：语句、消息、次数都与真的代理相同。
"""

import argparse
import functools
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence

from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.serializers import JSONSerializer
from sqlalchemy.exc import DBAPIError

from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import load_settings
from scns_conductor.core.states import JobState
from scns_conductor.core.valkey import queue_name
from scns_conductor.statements.claims import abandon_allocations, claim_allocations
from scns_conductor.statements.ends import JobEnd, commit_ends
from scns_conductor.statements.node_state import HEARTBEAT
from scns_conductor.worker.agent.devices import NodeInventory
from scns_conductor.worker.agent.reconcile import held_allocations
from scns_conductor.worker.agent.registration import mark_up, register_node
from scns_conductor.worker.bus import RECEIVE_WAIT_S, connect
from scns_conductor.worker.wire.shepherd_messages import Capabilities

WORKERS = 4
# 一次心跳要等一次落盘：真的代理各等各的，一个线程替几千个节点跳不过来。
BEATERS = 4
BUS_WAIT_S = 1
MEMORY_MB = 65536

# 没有牧守进程，什么约束也没有。
NOTHING = Capabilities(
    cgroup_version=None, detail="fake", memory="none", pids="none", cpus="none", devices="none", kill_all="none",
    suspend="none", users="none", not_enforced=[],
)  # fmt: skip

Task = tuple[str, list[int]] | None


class FakeNodes:
    """names 这些节点；run 到收到停止为止。"""

    def __init__(self, names: Sequence[str], cpus: int, *, own_sessions: bool = False) -> None:
        self._names = names
        self._cpus = cpus
        self._settings = load_settings()
        # 每个节点一条：池先进先出，轮着用，全都一直有人用。
        self._sessions = max(len(names), WORKERS) if own_sessions else WORKERS + 2 * BEATERS
        self._engine = sync_engine(self._settings, pool_size=self._sessions, role="agent@fake", one_plan=True)
        # 真的代理没有核、令牌要记时也是这样：只有一条语句，自成一个事务。
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._stopping = threading.Event()
        self._work: queue.SimpleQueue[Task] = queue.SimpleQueue()

    def stop(self) -> None:
        """请求停下。"""
        self._stopping.set()

    def run(self) -> None:
        """登记、干活、停下。"""
        for session in [self._engine.connect() for _ in range(self._sessions)]:
            session.close()
        threads = [threading.Thread(target=self._carry_out) for _ in range(WORKERS)]
        for index in range(BEATERS):
            names = self._names[index::BEATERS]
            threads.append(threading.Thread(target=self._beat, args=(names, self._settings.heartbeat_interval_s)))
            threads.append(threading.Thread(target=self._reconcile, args=(names, self._settings.reconcile_interval_s)))
        # 先跳起来：几千个逐个登记要一分多钟，先登记的不能没有声音。
        for thread in threads:
            thread.start()
        inventory = NodeInventory(self._cpus, MEMORY_MB, 0, {}, (), (), "fake", 0.0, os.uname().machine, "fake")
        for name in self._names:
            register_node(self._engine, self._settings.model_copy(update={"node_name": name}), inventory, NOTHING, 0)
            mark_up(self._engine, name)
        print("ready", flush=True)
        self._listen()
        for _ in range(WORKERS):
            self._work.put(None)
        for thread in threads:
            thread.join()
        self._engine.dispose()

    def _listen(self) -> None:
        """一条连接等全部节点的队列；取出、删掉，与 bus.Consumer 相同。"""
        connection = connect(self._settings.redis_url.get_secret_value(), RECEIVE_WAIT_S)
        queues = {
            queue_name(name): Queue(queue_name(name), connection=connection, serializer=JSONSerializer)
            for name in self._names
        }
        nodes = {queue_name(name): name for name in self._names}
        while not self._stopping.is_set():
            try:
                taken = Queue.dequeue_any(
                    list(queues.values()), BUS_WAIT_S, connection=connection, serializer=JSONSerializer
                )
            except DequeueTimeout:
                continue
            if taken is None:
                continue
            job, source = taken
            with connection.pipeline(transaction=False) as pipeline:
                pipeline.lrem(queues[source.name].intermediate_queue_key, 1, job.id)
                pipeline.delete(job.key)
                pipeline.execute()
            if job.func_name in ("launch", "cancel"):
                self._work.put((nodes[source.name], list(job.args[0]["job_ids"])))
        connection.close()

    def _carry_out(self) -> None:
        while (task := self._work.get()) is not None:
            try:
                self._launch(*task)
            except DBAPIError as error:
                print(error.orig, flush=True)

    def _launch(self, node: str, job_ids: list[int] | None) -> None:
        """认领一个事务，结束一个事务，与代理相同。"""
        if not job_ids:
            return
        with self._single.connect() as connection:
            claimed = claim_allocations(connection, node, job_ids)
            # 没有认领到的：已经有人要求取消，由本节点放弃。
            abandoned = abandon_allocations(connection, node, job_ids) if len(claimed) < len(job_ids) else []
        done = [(job.job_id, job.restart_count, JobState.COMPLETED, "exit") for job in claimed if job.runs_here]
        done += [(job.job_id, job.restart_count, JobState.CANCELLED, "cancel") for job in abandoned]
        ends = [
            JobEnd(
                job_id=job_id,
                restart_count=restart_count,
                state=state,
                cause=cause,
                actor=f"agent@{node}",
                end_time=time.time(),
                exit_status=0,
                exit_signal=0,
                cpu_user_s=0.0,
                cpu_system_s=0.0,
                max_rss_kb=0,
                read_bytes=0,
                written_bytes=0,
            )
            for job_id, restart_count, state, cause in done
        ]
        with self._single.connect() as connection:
            commit_ends(connection, ends)

    def _beat(self, names: Sequence[str], interval_s: float) -> None:
        """每个节点按间隔心跳，各节点均匀错开。"""

        def beat(name: str) -> None:
            values = {"name": name, "cpu_load": 0.0, "free_memory": MEMORY_MB, "spool_free": None}
            with self._engine.begin() as connection:
                connection.execute(HEARTBEAT, values)

        self._evenly(interval_s, [functools.partial(beat, name) for name in names])

    def _reconcile(self, names: Sequence[str], interval_s: float) -> None:
        """每个节点按间隔核对：丢了的启动消息靠它补上。"""

        def check(name: str) -> None:
            with self._engine.begin() as connection:
                held = held_allocations(connection, name, None, 0.0)
            missed = [row.job_id for row in held if not row.claimed]
            if missed:
                self._work.put((name, missed))

        self._evenly(interval_s, [functools.partial(check, name) for name in names])

    def _evenly(self, interval_s: float, actions) -> None:  # type: ignore[no-untyped-def]
        if not actions:
            return
        due = time.monotonic()
        while not self._stopping.is_set():
            for action in actions:
                due += interval_s / len(actions)
                if self._stopping.wait(max(0.0, due - time.monotonic())):
                    return
                try:
                    action()
                except DBAPIError as error:
                    print(error.orig, flush=True)
            # 跟不上就不追：真的代理也是做完一次再等一个间隔。
            due = max(due, time.monotonic() - interval_s)


def main() -> None:
    """入口。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--url", help="只为让 processes.py 认出是哪个系统的")
    parser.add_argument("--own-sessions", action="store_true", help="每个节点一条会话，像真的代理；不然几条大家用")
    options = parser.parse_args()
    names = [f"fake{index}" for index in range(options.first, options.first + options.count)]
    nodes = FakeNodes(names, options.cpus, own_sessions=options.own_sessions)
    signal.signal(signal.SIGTERM, lambda *_: nodes.stop())
    signal.signal(signal.SIGINT, lambda *_: nodes.stop())
    nodes.run()


if __name__ == "__main__":
    main()
