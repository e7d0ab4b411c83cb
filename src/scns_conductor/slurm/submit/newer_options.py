"""22.05 之后才有的选项：收下不用的提示，与做不到、要点名拒绝的。说的是旧版（SCNS_SLURM_VERSION）时也认。"""

from scns_conductor.slurm.parse.options import Option, flags, hints, option, refused, values

# 绑定、块状拓扑的分段、由谁管作业步、内存不够时整步结束：不改变作业的结果，或这里本来如此。
HINTS: list[Option] = hints(
    values("--tres-bind", "--segment"),
    flags("--stepmgr", "--consolidate-segments", "--spread-segments"),
    [option("--oom-kill-step", "optional"), option("--resv-ports", "optional")],
)
REFUSED: list[Option] = refused(values("--container-id"))
# srun 才有的提示：消息怎样传、等不等子进程。
STEP_HINTS: list[Option] = hints(values("--treewidth"), flags("--wait-for-children", "--external-launcher"))
# 提示的值的写法（正则）；写错了照别的提示拒绝。
FORMS = {
    "tres_bind": r"(verbose,)?gres/[\w/]+:\+?[\w:,*+-]+",
    "segment": r"[1-9]\d*",
    "oom_kill_step": r"[01]?",
    "resv_ports": r"\d*",
}
