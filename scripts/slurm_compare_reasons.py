"""slurm_compare.py 里仍然不同的命令行各是为什么：理由、命令行的正则表达式（docs/slurm-compat.md 的表由此写出）。"""

import re

# 一个理由写在一行里，不折。
# ruff: noqa: E501

# 先列的先认；一条命令行只归一个理由。
REASONS: tuple[tuple[str, str], ...] = (
    (
        "`--cpu-freq`、`--gpu-freq`：这里不改频率，提醒一句；Slurm 的节点改不了时也不改，不说话",
        r"^sub -H --[cg]pu-freq=",
    ),
    (
        "只是时机：Slurm 的记账晚一两秒才记下开始，这里当场",
        r"state RUNNING; sleep 1; sacct -j \$J -nP -o jobname,state,exitcode,end$",
    ),
    (
        "作业里的变量：没有 `SLURM_CONF SLURM_WORKING_CLUSTER SLURM_GET_USER_ENV`；`SLURM_TASK_PID` 在单用户的节点上只有写到它的脚本有；多 `SLURM_JOB_START_TIME SLURM_JOB_END_TIME SLURM_LAUNCH_NODE_IPADDR SLURM_TRES_PER_TASK SLURM_GRES_FLAGS`（较新的 Slurm 才有）；`--cpu-freq` 提醒一句",
        r"env\.(sh|out)",
    ),
    ("squeue(1) 的状态 `sacct -s` 都认；22.05 说其中几个没有记账，退出码 1", r"^sacct -nXP -s [A-Z]{2} "),
    (
        "没有写时限的 `--deadline`：时限当场就是剩下的时间（22.05 到启动时才定）；赶不上期限的当场拒绝",
        r"--deadline=now\+1(hour ok|minute)",
    ),
    (
        "新版才有的：`elevenses`（11:00）、`scontrol crontab`，`sacct` 的 `Planned`（那时叫 Reserved）等列",
        r"elevenses|scontrol crontab|-o (planned|ALL) ",
    ),
    ("只有一种调度：`sacct` 的标志总是 `SchedMain`（Slurm 由回填启动的是 `SchedBackfill`）", r"-o flags$"),
    (
        "预留的标志：不认的列出可用的，合不到一起的说为什么",
        r"reservationname=rf ",
    ),
    ("新建的分区 `MinNodes` 是 0（Slurm 的 `create` 写 1，slurm.conf 里的也是 0）", r"create part=pp"),
    (
        "触发：22.05 只许 SlurmUser 定（这里谁都可以，程序以那个人的身份运行），先查作业再查别的",
        r"^(sub .*)?strigger --set|strigger --(get|clear)",
    ),
    (
        "保留着的作业：`specialexit` 的原因写 `JobHeldUser`（Slurm 是 `job requeued in held state`）；放行之后当场就跑；同名的作业已经在跑的，话不同",
        r"specialexit|name=held; echo",
    ),
    ("变小的作业：写得太多的是「分区里没有这么多」，Slurm 说不支持", r"numnodes=0"),
    (
        "节点恢复、数组与异构作业的启动要几秒：等的时候看到的不同（机器忙）；停用的节点上，作业等进程结束了才离开（Slurm 当场），恢复之后接着跑",
        r"^node\(\) |J=arr |-J arr -a 1-[45]|-a 1-4%1",
    ),
    ("`srun --ntasks-per-node=2 -O` 照写的启动两个；Slurm 以作业的任务数为准", r"--ntasks-per-node=2 -O"),
    ("`salloc` 交还之后，Slurm 有时多说一句分配没了", r"salloc -n1 -t 1 "),
    ("`scancel` 没有的作业步退出码是 1（Slurm 225）；`-v` 里 `--me` 写用户名", r"scancel -v"),
    ("重新排队之后：22.05 的 `squeue` 要等节点收拾好", r"-J again"),
    ("Debian 的包自称 `slurm-wlm 22.05.8`，这里写上游的 `slurm 22.05.8`", r"^\w+ (-V|version)$"),
    (
        "用法（usage、help）的文字较短或换行不同",
        r"--usage|--help| -h \| head|^(scontrol|sreport|sacctmgr) help|^squeue extra",
    ),
    (
        "异构作业：这里各部分当场一起启动，只有一个节点也行；Slurm 由回填启动，在这一个节点上一直排着。不在异构作业里写 `--het-group`：这里是错误，Slurm 不理（值写错了才说）",
        r" : -n\d|hetjob|het-group",
    ),
    ("试算不占作业号，写 `Job 0`；保留的作业没有计划", r"--test-only ok\.sh|#SBATCH --test-only"),
    (
        "有意：永远不能运行的当场拒绝（CPU、任务、节点比分区里的还多，排除了全部节点，超过分区的时限），用的是 `EnforcePartLimits=ALL` 的话；Slurm（缺省 `NO`）接受，永远等着",
        r"-n 99|-N (5|1k) |-c 99|mincpus=99|per-node=99|-x node1 |excnodelist=node1|-t 60 -p short",
    ),
    (
        "有意：打错的值是错误；Slurm 当作 0、忽略它或溢出",
        r"--nice=abc|--priority=(abc|'')|mail-type=BEGIN,nope|-N (-1|0|1-) |-t (1-|99999999999) |-a (1-5%abc|1-3%2%1) |nice=abc|numcpus=1-3|grouping=x|-t nope cluster|end=2020-01-01",
    ),
    ("有意：带小数的内存（`1.5G`）也接受", r"--mem=1\.5G"),
    ("已经过去的开始时刻（`today` 是今天零点）这里留着，Slurm 不留", r"-b today"),
    (
        "这里没有那样东西，按名字拒绝（接受就悄悄改变了作业的含义）",
        r"-H --(batch|uid|gid|bbf?|reboot|cluster-constraint)\b|SBATCH_BATCH|sibling=x|sacct .*-[fx] ",
    ),
    (
        "`-S`、`--thread-spec` 照办（独占节点，留出核）；Slurm 没有配 `AllowSpecResourcesUsage` 时说一句、忽略",
        r"-H (-S 1|--thread-spec)",
    ),
    ("`--power` 不认得的词：Slurm 打印一行、忽略，这里不说话", r"power=nope|SBATCH_POWER"),
    (
        "`-v` 的表与结局相同；Slurm 另有插件、认证的行（`select/cons_tres: …`），`-vv` 的 `debug:` 各说各的",
        r"-vv? |SBATCH_DEBUG",
    ),
    (
        "GPU：没有写内存的作业 TRES 里没有 `mem`（Slurm 缺省是整个节点的）；`squeue %b` 也写整个作业要的；没有说几块的 `--cpus-per-gpu`、没有的型号、比集群还多的当场拒绝；空的 `--gres=` 等于没有写；占用里没有 `(IDX:…)`",
        r"gpu|--gres=''",
    ),
    ("`--exclusive=mcs` 要写标签（`--mcs-label`）；Slurm 的标签由插件定", r"clusive=mcs"),
    (
        "依赖一个从来没有过的作业：当场拒绝（记账一直留着，没有就是写错了），Slurm 接受；`expand`、`afterburstbuffer`、`,` 与 `?` 混写也拒绝",
        r"afterok:999999|-d (expand|afterburstbuffer)|-d afterok:\$A,afterok:\$A\?singleton",
    ),
    (
        "依赖的显示：这里当场核对，满足了的不再显示；Slurm 到调度时才核对，保留着的不核对。`singleton` 这里总写作没有满足，依赖数组时不写 `_*`",
        r"-d (after|singleton)",
    ),
    (
        "列名写错是错误，不打印少一列的表；Slurm 说一句、照打其余的列（或原样打印格式），退出码 0",
        r"-O (Name,Nosuch|'%'|'Name State'|'Nosuch'|Nosuch|cpufreq|reqnodes,reservation,resizetime,restartcnt,resvport)|-o %Q|format=nope|format=nosuch|jobname%x",
    ),
    ("空的格式：Slurm 打印空行", r"-[oO] ''"),
    (
        "格式里 Slurm 不认的写法（`%#j`、`%-5j`、`%10.5j`）它原样打印并说一句，这里照字母办；`%%` 打印一个 %；没有 `%s`（选择插件的数据）",
        r"-o '(%#j|%%j|%-5j|%10\.5j|%S %e %s)|sinfo -o '%10P|squeue -o '%all'",
    ),
    ("手册页里有 `squeue -O nodes`，22.05 自己不认；这里照手册页", r"mintmpdisk,nice,nodes"),
    ("排序的字母写错：Slurm 先打印表头（`squeue`）或不理（`sinfo`），这里只报错", r"-S nope"),
    ("`squeue -s 号.batch`：这里列出批处理步", r"squeue -h -s -j \$J"),
    (
        "节点的实际情况：这里报告 1 插槽 4 核、真的 /tmp、系统与版本，节点名就是地址；Slurm 照 slurm.conf 是 4 插槽 1 核、主机名。负载与空闲内存随时变",
        r"%X\|%Y|show nodes?( node1)?$|'%n %t'|sinfo -N -h -l|port,nodeaddr|socketcorethread|cpusload|show alias",
    ),
    ("`%N` 是节点名，在这里不是主机名", r"%4t_%3n_%N"),
    (
        "作业里没有 `LastSchedEval`、提交者的会话号（`AllocNode:Sid` 的后半）、关联号；提交的主机写名字，Slurm 写 localhost；没有写 `-n` 的 `NumTasks` 是 1；排着队就取消的没有开始时刻，原因不留着",
        r"show job( \$J$|s?$| '')|-o show job|lastschedeval|allocnodes:10|associd",
    ),
    ("`scontrol -d show job` 的 `CPU_IDs` 只有绑了核的作业有；没有 `JOB_GRES` 的行", r"scontrol -d show job"),
    (
        "`--json` 的形状：运行中的作业没有 `job_resources` 里各核的状态；没有标志、没有用量（`sinfo`）时类型不同；`sacct` 的步里哪几张 TRES 表是空的不同",
        r"shape\.py",
    ),
    (
        "坏的节点名列表是错误（Slurm 照猜的打印，退出码 0）；相同的名字合成一个，位数不同的不写进一个括号；没有给列表时不打印整页用法",
        r"'a\[1-'|node\[1-|'a\[3-1\]'|show hostlist",
    ),
    (
        "保留的原因：root 保留自己的作业，这里是 `JobHeldUser`（Slurm 因为是 root 记 `JobHeldAdmin`）；`requeuehold` 之后也是它（原因只有一个词）；运行中的作业不能保留",
        r"scontrol (hold|requeuehold) \$J|uhold \$J",
    ),
    (
        "只是时机：节点恢复、重新排队、数组逐个启动在 Slurm 要等几秒（显示 `idle*`、`PENDING`），这里当场",
        r"state=resume|scontrol requeue \$J; sleep|-a 1-2 -o /dev/null|1-4%2|-J arr -a 1-3",
    ),
    ("提交时写了 `--no-requeue` 的作业，管理员可以重新排队；Slurm 谁也不行", r"--no-requeue -o /dev/null"),
    (
        "失败的命令退出码是 1；Slurm 是 0（没有的脚本、空的名字）",
        r"write batch_script( 999999)?$|create partition=|delete partitionname=$",
    ),
    (
        "按名字拒绝、说明改用什么：日志级别在设置里，没有 notify、前端节点；`show slurmd` 有替代",
        r"scontrol (notify|setdebug|setdebugflags|schedloglevel|fsdampeningfactor)\b|^scontrol show (frontend|slurmd)",
    ),
    ("Slurm 没有配 `RebootProgram` 就不看节点；节点名写错的话不同", r"scontrol (reboot|cancel_reboot)"),
    ("`show config`：个别的项与值（新版才有的、没有这回事的是 `n/a`；第一个作业号）", r"^scontrol show config"),
    ("数组的上限：这里的 `MaxArraySize` 大得多", r"-a 1001 "),
    (
        "坏时间：只差指出的位置（`pos=`）；不存在的日期（2 月 30 日）这里是错误",
        r"-b (4pm|13:00pm|2030-13-01|now\+|now\+x|now\+5parsecs|25:00) |-S (now\+x|-1|2024-02-30|2024-13-01|now-1x)",
    ),
    (
        "脚本起不来（输出、输入打不开）是 `NonZeroExitCode`，Slurm 是 `JobLaunchFailure`；没有解释器的退出码是 127（Slurm 2）；工作目录没有时失败（Slurm 改到 /tmp 运行）",
        r"nodir/x\.txt|-i nosuch|nointerp\.sh|-D /nosuch",
    ),
    ("脚本存成 `job_{id}.sh`，不叫 `slurm_script`", r"grep -c slurm_script"),
    ("空的分区、特征、用户等于没有写", r"-p '' |-C '' |-u '' "),
    (
        "没有开核对时，账户、QOS 只是文字，不存在的也记下；Slurm 不记",
        r"update jobid=\$J (account|qos)=nosuch|SBATCH_QOS",
    ),
    ("选项前缀有歧义时列的候选少一个（`--ntasks-per-tres` 是手册页里没有的旧名）", r"sbatch --n=7"),
    ("没有的 MPI 插件按名字拒绝", r"--mpi=nope"),
    ("提示里说的是 `SLURM_CLUSTERS`（Slurm 的 sbatch 说 `--cluster`，sacct 不看它）", r"SLURM_CLUSTERS"),
    (
        "`scancel`：没有作业步时信号给作业的全部进程（Slurm 谁也不给），STOP 之后状态仍是 RUNNING；刚结束的作业说明一行；号后面多余的下划线是错误",
        r"scancel -s (TERM|STOP) \$J|scancel \$J; scancel -s USR1|scancel 1_;",
    ),
    (
        "取消的作业是 `CANCELLED`，不写 `CANCELLED by UID`（设 `SCNS_SACCT_CANCELLED_BY=1` 才写）；被信号杀死的批处理步是 FAILED，Slurm 是 CANCELLED",
        r"-J killed|scancel \$J; state CANCELLED; .*sacct",
    ),
    (
        "数组的 `_[1-3]`：`squeue`、`sacct` 都认，列出这些任务；Slurm 的 `squeue` 什么也不列，`sacct` 报错。排队的数组当场就在记账里",
        r"_\[1-3\]|_\[2-3\]|-a 1-9%2 -o /dev/null",
    ),
    ("数组拆开的任务：`squeue -r` 里的先后不同", r"jobid=\$\{J\}_2"),
    (
        "按名字拒绝的修改：`workdir stdout userid burstbuffer delayboot corespec threadspec sitefactor resetaccruetime clusters`，不能改成空名字；Slurm 有的改，有的也拒绝而话不同",
        r"update jobid=\$J (workdir|stdout|userid|burstbuffer|delayboot|corespec|threadspec|sitefactor|resetaccruetime|clusters|name=;|shared=0)",
    ),
    (
        "改作业：`numtasks` 连 CPU 一起改；给保留的作业写优先级不算错；没有运行的作业写 `endtime` 的话不同",
        r"update jobid=\$J (numtasks|priority|endtime|gres)",
    ),
    (
        "预约：名字的序号从没有用过的 1 起；`ALL_NODES` 不写进标志；`sinfo -T` 用 -h 也打印表头",
        r"^scontrol (create|update|delete|show) res",
    ),
    ("改分区写错了：少末行的 `slurm_update error: No error`", r"update partitionname=main (nosuch|maxtime|state=nope)"),
    (
        "没有的作业：`suspend`、`resume` 的话不同（Slurm 说 `Unexpected message received`）",
        r"scontrol (suspend|resume) 999999",
    ),
    ("`hold`、`release` 可以写作业名（`held`）；同名而不排队的话不同", r"scontrol hold held"),
    ("`errnumstr` 只有用得到的错误号", r"errnumstr"),
    ("`scontrol token` 总能用；Slurm 要先配 JWT", r"scontrol token"),
    (
        "坏的写法：退出码相同，话不同",
        r"scontrol (update job=|wait_job abc)|quote\.sh|-J a.* b|sreport (user|job nosuch|-T nosuch user top)$",
    ),
    ("`sdiag` 的数与项：计划只有一种周期，没有 gettimeofday 的测量", r"sdiag"),
    ("`sstat -j 号`：没有别的步时也列批处理步；CPU 等数随时变", r"\bsstat"),
    (
        "`basic` 策略下没有公平份额的数，只有根；Slurm 照样列关联（份额空着），没有分区列与 `GrpTRESMins` 等列",
        r"sshare",
    ),
    (
        "账户的上级不能绕成圈（Slurm 收下）；`MaxJobsPerUser`、`MaxSubmitPU` 等名字也认（22.05 对用户不认）；用户的关联按账户名排",
        r"set parent=tda|MaxJobsPerUser|MaxSubmitPU|user=tdu|user tdu set|account tda set parent",
    ),
    (
        "`sacctmgr`：`modify account` 不列继承的下级；没有的 QOS、账户、标志，话不同；没有 `fs`、`vmem` 等 TRES",
        r"sacctmgr (-i (add|modify)|show tres|show assoc account)|sacctmgr add account c9",
    ),
    (
        "`sacctmgr show`、`dump`、`load`：problem 按名字拒绝；其余的有，内容是各自系统的",
        r"sacctmgr (show (config|runaway|events|reservation|problem|stats|transactions|wckey|coordinator)|dump|load|archive)",
    ),
    ("`show assoc_mgr`：没有累计的用量与 wckey，TRES 只有 cpu、mem、node", r"^scontrol show assoc"),
    ("`sacctmgr` 的树：账户名的缩进与对齐不同", r"association tree"),
    (
        "`sreport`：此刻就有数，Slurm 要等整点汇总（所以没有行）；预约的用量没有记录；报告名可以只写前几个字母",
        r"sreport",
    ),
    ("改时限为 0 是不限时；Slurm 的 `update` 当作没有改", r"timelimit=0;"),
    (
        "`sacct`：`SubmitLine` 是空的（脚本的参数只给本人与管理员看）；多余的逗号忽略；`-R` 照手册页有（22.05 自己不认）；`-M` 别的集群是错误",
        r"sacct .*(-o submitline|jobname,,state|-R nosuch|-M nosuch)",
    ),
    (
        "`sacct` 没有 `-j` 时，从来没有轮到过的作业（保留着就取消的）也列；Slurm 的时段看的是轮到的时刻",
        r"^sacct -nXP (-j ,|-j ''|-s ''|-S '') ",
    ),
    ("`sacctmgr` 的坏输入：退出码相同，话不同；`user=''` 不当作账户自己的关联", r"sacctmgr "),
)


def reason_of(command: str) -> str | None:
    """第一个相符的理由；没有写过的是 None。"""
    return next((reason for reason, pattern in REASONS if re.search(pattern, command)), None)
