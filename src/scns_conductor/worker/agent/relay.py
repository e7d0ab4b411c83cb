"""接力：写一批结束的事务里，空出来的份额就地交给领导者许可的后继（docs/decisions/0011-relay.md）。

写在收尾的线程里，启动在控制线程里，两者之间的在 arriving。核对（控制线程）读数据库的时候这里也许正在提交：它先 mark，
读过之后 arriving 里有从那时起接过来的全部；还有提交没有回来（unsure）时，数据库里没有进程的也许就是它的，不算丢失。
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy.engine import Engine

from scns_conductor.core.errors import first_line
from scns_conductor.core.job_token import token_digest
from scns_conductor.statements.claims import ClaimedJob, record_bindings
from scns_conductor.statements.ends import Ended, JobEnd
from scns_conductor.statements.relay import Offer, Successor, hand_over
from scns_conductor.worker.agent.core_binding import Binding, CorePool
from scns_conductor.worker.agent.database_faults import DATABASE_ERRORS, is_passing
from scns_conductor.worker.agent.database_memory import DatabaseMemory
from scns_conductor.worker.agent.launch_plan import LaunchContext
from scns_conductor.worker.wire.bus_messages import SuccessorOffer
from scns_conductor.worker.wire.end_record import EndRecord

# 这些结束空出来的份额才交：进程真的走了，节点也没有毛病。
_CAUSES = frozenset({"exit", "timeout", "oom", "cancel", "killed", "deadline"})

# 两次提交之间歇这么久（秒）；链上还有几个排着的时候不急，一次多带几个。
REST_S = 0.002
CHAIN_REST_S = 0.03

# 停下时等正在提交的一次至多这么久（秒）。
CLOSE_WAIT_S = 5.0

logger = logging.getLogger(__name__)


class Relay:
    """launch 排到控制线程去：启动 arriving 里的。"""

    def __init__(
        self,
        engine: Engine,
        context: LaunchContext,
        pool: CorePool,
        memory: DatabaseMemory,
        *,
        launch: Callable[[], None],
    ) -> None:
        self._lock = threading.Condition()
        self._taken: set[tuple[int, int]] = set()
        self._committing = False
        self._arriving: dict[tuple[int, int], tuple[ClaimedJob, Binding, int | None]] = {}
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._context = context
        self._node = context.node.node_name
        self._pool = pool
        self._memory = memory
        self._launch = launch
        self._chains = context.settings.task_prolog is None and context.settings.task_epilog is None
        self._offer: Offer | None = None
        # 单子换过几次：提交的时候换了的，余下的不放回去。
        self._version = 0
        self._closed = False
        self._chained = False

    def rest_s(self) -> float:
        """下一次提交之前歇几秒。"""
        return CHAIN_REST_S if self._chained else REST_S

    def offer(self, offered: SuccessorOffer) -> None:
        """换成这张单子；空的是撤回。不成样子抛 ValueError。"""
        jobs = tuple((int(job_id), task_id, int(revision)) for job_id, task_id, revision in offered.jobs)
        # prolog、epilog 要在两个作业之间运行：一次只接一个。
        depth = max(1, offered.depth) if self._chains else 1
        made = Offer(offered.epoch, offered.expires, offered.cpus, offered.memory, offered.tasks, jobs, depth)
        with self._lock:
            self._version += 1
            self._offer = made if jobs else None

    def mark(self) -> None:
        """核对要读数据库了（控制线程）。"""
        with self._lock:
            self._taken.clear()

    def arriving(self) -> tuple[set[tuple[int, int]], bool]:
        """还没有启动的与 mark 以来接过来的（作业号，尝试），以及此刻有没有一次提交还没有回来。"""
        with self._lock:
            return self._taken | self._arriving.keys(), self._committing

    def take(self) -> list[tuple[ClaimedJob, Binding, int | None]]:
        """拿走要启动的，各自的核，在哪条链上（控制线程）。"""
        with self._lock:
            taken, self._arriving = self._arriving, {}
        return list(taken.values())

    def close(self) -> list[ClaimedJob]:
        """要停下了：不再接力；返回提交了还没有启动的，由调用者交还。"""
        with self._lock:
            self._closed, self._offer = True, None
            self._lock.wait_for(lambda: not self._committing, CLOSE_WAIT_S)
        return [job for job, _, _ in self.take()]

    def commit(self, records: Sequence[EndRecord], ends: Sequence[JobEnd]) -> list[Ended] | None:
        """写下一批结束，能交的份额交给后继，返回生效的；没有单子、没有能交的返回 None，什么也没有做。"""
        vacating = [end.job_id for end in records if end.id is not None and end.cause in _CAUSES and not end.unkillable]
        with self._lock:
            offer, version = self._offer, self._version
            self._chained = False
            if offer is None or not vacating or self._closed:
                return None
            # 写不成的不再用它：重试照平常的办法写结束。
            self._offer, self._committing = None, True
        try:
            ended, successors = self._write(ends, vacating, offer)
            with self._lock:
                for successor in successors:
                    owner = (successor.job.job_id, successor.job.restart_count)
                    self._taken.add(owner)
                    binding = self._pool.hand_over(successor.predecessor, owner, successor.chain)
                    self._arriving[owner] = (successor.job, binding, successor.chain)
                if version == self._version and not self._closed:
                    self._offer = _rest(offer, successors)
        except DATABASE_ERRORS as error:
            if is_passing(error):
                raise
            # 是这里的毛病还是某一条结束的，照平常的办法写一遍就知道；结束不因接力而写不成。
            logger.error("relay_refused", extra={"node": self._node, "error": first_line(error)})
            return None
        finally:
            with self._lock:
                self._committing = False
                self._lock.notify_all()
        if successors:
            self._chained = offer.depth > 1
            self._memory.claimed(successor.job.job_id for successor in successors)
            self._launch()
        return ended

    def _write(
        self, ends: Sequence[JobEnd], vacating: Sequence[int], offer: Offer
    ) -> tuple[list[Ended], list[Successor]]:
        secret = self._context.token_secret is not None
        alone = not secret and not any(end.outputs for end in ends)
        with self._single.connect() if alone else self._engine.begin() as connection:
            ended, successors = hand_over(connection, self._node, ends, vacating, offer)
            if secret:
                record_bindings(connection, [self._binding(successor) for successor in successors])
        return ended, successors

    def _binding(self, successor: Successor) -> tuple[int, list[int] | None, dict[str, list[int]], bytes | None]:
        token = self._context.token(successor.job)
        digest = token_digest(token) if token is not None else None
        return successor.job.allocation_id, successor.cpu_ids, {}, digest


def _rest(offer: Offer, successors: Sequence[Successor]) -> Offer | None:
    """单子里还没有用掉的。"""
    used = {successor.origin for successor in successors}
    jobs = tuple(job for job in offer.jobs if job[:2] not in used)
    if not jobs:
        return None
    return replace(offer, jobs=jobs)
