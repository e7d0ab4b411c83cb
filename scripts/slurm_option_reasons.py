"""收下不起作用、提醒一句、点名拒绝的选项，各为什么：docs/slurm-compat.md 的那张表（scripts/slurm_page.py）。

键是第一个长选项（没有长的是短的）；几个命令里同名而理由不同的写成 命令 --选项。照办的不在这里；
tests/unit/test_slurm_page.py 核对一个不多、一个不少。
"""

# 本来就是这样，写不写都一样。
_ONE_CLUSTER = "只有一个集群，没有联邦"
_NO_HIDDEN = "没有隐藏的分区与节点：看得见的总是全部"
_TRANSPORT = "传法不同：节点直接连到命令，没有 slurmd 的转发树、压缩与消息的期限；只管快慢，结果相同"
_NO_BURST = "没有 burst buffer"
_OWN_IDENTITY = "作业总以提交者的身份运行；管理员替人提交用那个人的令牌（tokens.md）"
_NO_DBD = "没有 slurmdbd：记账就在数据库里，数据库不在时什么也记不下"

REASONS: dict[str, str] = {
    # 收下，不起作用
    "--stepmgr": "作业步本来就不经过中心的控制器排队：步由它的节点启动，API 只记下",
    "--consolidate-segments": "`--segment` 只有整个作业一段、一个节点一段两种，没有几段可以靠拢",
    "--spread-segments": "同上；与 `--segment=1` 一起写而不止一个节点的，点名拒绝",
    "--network": "Slurm 也只有配了交换机插件（Cray、IBM）才看它；网络就是节点的网络",
    "--power": "功耗的插件只有 Cray 有，24.05 已经删去这个选项；每节点的功耗没有上限",
    "--delay-boot": "管的是为了换特性（KNL）重启节点之前等多久；这里的特性是节点声明的，从不为作业重启节点",
    "--wait-all-nodes": "总是 1：全部节点都开了、都登记了才启动（`salloc`、`srun` 也是）；写 0 也等",
    "srun --get-user-env": "Slurm 里也只有 root 替别人（`--uid`）运行时有作用；脚本的见 sbatch",
    "salloc --get-user-env": "命令在提交的机器上、提交者的 shell 里运行，环境就是他的",
    "salloc --propagate": "命令在提交的机器上运行，上限就是那个 shell 的；里面的 `srun` 各自带上",
    "--interactive": "它挑的是 `salloc` 里的交互步；这里的 `salloc` 在本机运行命令",
    "--compress": _TRANSPORT,
    "--treewidth": _TRANSPORT,
    "--threads": _TRANSPORT,
    "--msg-timeout": _TRANSPORT,
    "--slurmd-debug": "节点的日志有多详细由节点的设置定（`SCNS_LOG_LEVEL`），不混进作业的标准错误",
    "--fanout": _TRANSPORT,
    "--size": _TRANSPORT,
    "--timeout": _TRANSPORT,
    "squeue --all": _NO_HIDDEN,
    "sinfo --all": _NO_HIDDEN,
    "scontrol --all": _NO_HIDDEN,
    "--hide": _NO_HIDDEN,
    "--future": "没有 FUTURE 的节点；要用时才有的是 CLOUD，总列着",
    "--local": _ONE_CLUSTER,
    "--federation": _ONE_CLUSTER,
    "squeue --sibling": _ONE_CLUSTER,
    "sprio --sibling": _ONE_CLUSTER,
    "scontrol --sibling": _ONE_CLUSTER,
    "--fedorig": _ONE_CLUSTER,
    "--allclusters": _ONE_CLUSTER,
    "--all_clusters": _ONE_CLUSTER,
    "--array-unique": "排队的数组本来就是一行",
    "sinfo --noconvert": "内存与盘本来就写 MB，不换算",
    "--cron": "`scancel` 本来就取消得了 crontab 的作业（Slurm 配了 explicit_scancel 才要写它）",
    "--hurry": _NO_BURST,
    "--ctld": "信号总是经服务器，不是命令直接找节点",
    "--use-local-uid": "用户以名字记，UID 总是本机查的",
    "sacctmgr --oneliner": "一条记录本来就是一行",
    "squeue --expand-patterns": "`-O stdout` 等的路径本来就展开",
    "sshare --partition": "关联不分分区",
    "sreport --quiet": "本来就不多说",
    "sattach --unbuffered": "输出来了就写，不攒着",
    "seff --debug": "没有别的可打印",
    "sdiag --all": "总是全部",
    # 收下，提醒一句
    "--cpu-freq": "不改 CPU 的频率；标准错误里说一句，作业里仍有 `SLURM_CPU_FREQ_REQ`",
    "--gpu-freq": "不改 GPU 的频率；标准错误里说一句，作业里仍有 `SLURM_GPU_FREQ`",
    # 点名拒绝
    "--batch": "脚本总在第 0 个节点上；要它在有某个特性的节点上，用 `-C` 或异构作业",
    "--bb": _NO_BURST,
    "--bbf": _NO_BURST,
    "--cluster-constraint": _ONE_CLUSTER,
    "--container-id": "容器的号由节点定，免得两个作业同名",
    "--gid": _OWN_IDENTITY,
    "--uid": _OWN_IDENTITY,
    "--reboot": "普通用户不能重启节点；管理员用 `scontrol reboot`",
    "--send-libs": "只送程序自己；库请放在共享的目录里，或用容器",
    "--bcast-exclude": "没有 `--send-libs`，也就没有要除去的库",
    "--exclude": "同 `--bcast-exclude`",
    "--wait-for-children": "一步随它的任务结束，留下的进程当场收走；要等的由程序自己等",
    "--no-allocate": "不经分配就运行会超分；管理员要用 ssh",
    "--recursive": "只收一个文件；目录先打包，或写在共享的目录里",
    "--pidformat": "进程在节点上看：`scontrol listpids`",
    "--admin-comment": "取消不写备注；管理员用 `scontrol update AdminComment=`",
    "scancel --sibling": _ONE_CLUSTER,
    "--flags": "调度的标志不在记账里（总是 SchedMain）",
    "--completion": "没有 jobcomp 的插件；同没有配置它的 Slurm 的话",
    "--file": "没有文本的记账文件；旧的历史用 `scns import slurm`",
    "--associations": "关联没有号；用 `-A`、`-u`、`-r`",
    "sreport --cluster": _ONE_CLUSTER,
    "sdiag --cluster": _ONE_CLUSTER,
    "--burst_buffer": _NO_BURST,
    "--front_end": "没有 front end 节点（Cray、BlueGene）",
    "--fail": "节点没有 FAILING 这个状态",
    "--primary_slurmctld_acct_buffer_full": _NO_DBD,
    "--primary_slurmdbd_failure": _NO_DBD,
    "--primary_slurmdbd_resumed_operation": _NO_DBD,
    "--primary_database_failure": _NO_DBD,
    "--primary_database_resumed_operation": _NO_DBD,
}


def key_of(command: str, name: str) -> str | None:
    """这个命令的这个选项在表里的键；没有写理由是 None。"""
    return next((key for key in (f"{command} {name}", name) if key in REASONS), None)
