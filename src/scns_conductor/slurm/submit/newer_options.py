"""22.05 之后才有的选项：收下不用的提示，与做不到、要点名拒绝的。说的是旧版（SCNS_SLURM_VERSION）时也认。"""

import re
from collections.abc import Mapping

from scns_conductor.slurm.parse.options import Option, flags, hints, option, refused, values
from scns_conductor.slurm.session import Fatal

# 照办的：--oom-kill-step；--tres-bind 就是 --gpu-bind 的另一种写法，--extra 是附加的任意文字。
WORKING: list[Option] = [
    *values("--tres-bind", "--extra"),
    *values("--segment"),
    option("--oom-kill-step", "optional"),
    option("--resv-ports", "optional"),
]
# 几段之间怎样摆、由谁管作业步：不改变作业的结果，或这里本来如此。
HINTS: list[Option] = hints(
    flags("--stepmgr", "--consolidate-segments", "--spread-segments"),
)
REFUSED: list[Option] = refused(values("--container-id"))
# srun 才有的：启动别的启动者（看得见全部，谁也不挡着）；消息怎样传；任务结束了还等它的子进程（这里一步随任务结束）。
STEP_WORKING: list[Option] = flags("--external-launcher")
STEP_HINTS: list[Option] = hints(values("--treewidth"))
STEP_REFUSED: list[Option] = refused(flags("--wait-for-children"))
# 值的写法（正则）；写错了照别的提示拒绝。
FORMS = {
    "tres_bind": r"(verbose,)?gres/[\w/]+:\+?[\w:,*+-]+",
    "segment": r"[1-9]\d*",
    "oom_kill_step": r"[01]?",
    "resv_ports": r"\d{0,5}",
}


def segmented(given: Mapping[str, str]) -> dict[str, int]:
    """--segment=N：每 N 个节点在一个块（交换机）里。

    1 没有约束；整个作业是一段的就是 --switches=1；别的做不到，抛 Fatal。
    """
    size = int(given.get("segment") or 1)
    nodes = given.get("nodes", "1").rpartition("-")[2]
    if size == 1 and "spread_segments" in given and int(nodes) > 1:
        raise Fatal("--spread-segments with --segment smaller than the node count is not supported by this system")
    if size == 1 or "switches" in given:
        return {}
    if int(nodes) > size:
        raise Fatal("--segment smaller than the node count is not supported by this system; see --switches")
    return {"required_switches": 1}


def gpu_bound(given: Mapping[str, str]) -> dict[str, str]:
    """--tres-bind=gres/gpu:… 换成 --gpu-bind=…；别的资源没有绑定可言，抛 Fatal。写法不对的留给 FORMS。"""
    found = dict(given)
    text = found.get("tres_bind")
    if text and re.fullmatch(FORMS["tres_bind"], text, re.IGNORECASE):
        loud, _, rest = text.rpartition("gres/")
        name, _, bind = rest.partition(":")
        if name.lower() != "gpu":
            raise Fatal(f"--tres-bind=gres/{name} is not supported by this system; only gres/gpu can be bound")
        found.setdefault("gpu_bind", loud + bind)
    return found
