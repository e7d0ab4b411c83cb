"""作业的哪些状态是结束了的。"""

# 与 core.states.TERMINAL_STATES 相同（有测试核对）。
TERMINAL_STATES = frozenset(
    {
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "OUT_OF_MEMORY",
        "DEADLINE",
        "BOOT_FAIL",
    }
)
# 没有结束的状态，查询里的写法。
LIVE = "PENDING,RUNNING,SUSPENDED"
