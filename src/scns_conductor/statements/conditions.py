"""语句里反复出现的状态条件，全部由 core.states 的转移表推出（不变量 4）。

改状态的语句用 leaving 写出它的 WHERE：转移表里没有的转移在导入时就报错，写不成语句。
"""

from collections.abc import Iterable

from scns_conductor.core.states import ACTIVE_STATES, JobState, sources_of


def states(chosen: Iterable[JobState]) -> str:
    """SQL 的一列状态，如 ('RUNNING', 'SUSPENDED')；次序固定，语句的文字才不变。"""
    return f"({', '.join(repr(state.value) for state in sorted(chosen))})"


# 占着资源的；没有结束的。
ACTIVE = states(ACTIVE_STATES)
LIVE = states({JobState.PENDING, *ACTIVE_STATES})

# 认得出 jobs AS j 的这一次启动的数：开始时刻的微秒数。数据库恢复到从前，作业号与尝试会再来一遍，它不会。
LAUNCH_ID = "CAST(extract(epoch FROM j.start_time) * 1000000 AS bigint)"


def leaving(sources: Iterable[JobState], *, to: Iterable[JobState]) -> str:
    """从 sources 的状态转到 to 里任何一个的 WHERE，如 ('PENDING')；有一个转移不合法就抛 ValueError。"""
    chosen = frozenset(sources)
    for target in to:
        illegal = chosen - {JobState(word) for word in sources_of(target)}
        if illegal:
            raise ValueError(f"转移表里没有 {', '.join(sorted(illegal))} → {target}")
    return states(chosen)


def among(value: str, query: str) -> str:
    """value 在 query 给出的里面，查散列表。

    写成 IN 会成为连接：规划器当 CTE 只有一两行，用嵌套循环，一批几百个就是平方的。
    """
    return f"({value} IN ({query})) IS TRUE"


# 作业 j 的步在 :node 之外的节点上还没有报结束；失联了的节点不会再报。
STEP_ELSEWHERE = """EXISTS (
      SELECT FROM job_steps AS s JOIN nodes AS n ON n.name = ANY(array_remove(s.pending_nodes, :node))
      WHERE s.job_id = j.job_id AND s.restart_count = j.restart_count AND n.state = 'UP')"""
