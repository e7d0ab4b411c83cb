"""slurm_compare.py 的第三部分命令行：人们今天用的、后来才有的（异构作业、拆开的数组、预留的标志、strigger、GPU、时区……）。

Debian 的包里没有 scrontab、seff、sgather，比不了。
"""

# 命令行原样写在一行里，不折。
# ruff: noqa: E501

_HELD = "sub -H -J held -t 5 --mem=100 long.sh; "
_RUNNING = "sub -J running -t 5 --mem=100 -o /dev/null long.sh; state RUNNING; "
# 等节点的状态；$1 是 sinfo 的 %t。
_NODE = 'node() { for _ in $(seq 150); do [ "$(sinfo -h -p main -o %t)" = "$1" ] && return; sleep 0.2; done; echo "never $1"; }; '
_STATES = [
    "BF",
    "CA",
    "CD",
    "CF",
    "CG",
    "DL",
    "F",
    "NF",
    "OOM",
    "PD",
    "PR",
    "R",
    "RD",
    "RF",
    "RH",
    "RQ",
    "RS",
    "RV",
    "SI",
    "SE",
    "SO",
    "ST",
    "S",
    "TO",
]

_HET = [
    "printf '#!/bin/bash\\n#SBATCH -n1 -J two -o o.txt -t 5 --mem=100\\n#SBATCH hetjob\\n#SBATCH -n2 --mem=50\\nsrun -l --het-group=0,1 bash -c \"echo \\$SLURM_PROCID/\\$SLURM_NTASKS\" | sort\\n' > h.sh; sub h.sh; state COMPLETED; cat o.txt",
    "printf '#!/bin/bash\\n#SBATCH -n1 -o o.txt -t 5 --mem=100\\n#SBATCH hetjob\\n#SBATCH -n2 --mem=50\\nenv | grep -E \"HET_(SIZE|GROUP)\" | grep -E \"SIZE|NTASKS|CPUS_ON_NODE|JOB_NUM_NODES|PARTITION|JOB_NAME\" | sort\\n' > h.sh; sub h.sh; state COMPLETED; cat o.txt",
    "sub -H -n1 -J one : -n2 -J two long.sh; squeue -h -j $J -o '%i %j %C %t %r' | sed s/$J/J/ | sort; scontrol show job $J | grep -oE '(HetJobIdSet|HetJobOffset|JobName|NumTasks)=[^ ]*' | sort; scancel $J; sleep 1; squeue -h -j $J -o %i",
    "sub -H -n1 : -n1 long.sh; scontrol hold $J; scontrol update jobid=$J+1 timelimit=7; squeue -h -j $J -o '%i %l' | sed s/$J/J/ | sort",
    "sbatch -a 1-2 -n1 : -n1 ok.sh", "sbatch -n1 : ok.sh", "sbatch -n1 : -p nowhere ok.sh", "sbatch : ok.sh",
    "srun -n1 --het-group=1 true", "srun --het-group=x -n1 true",
    "srun -n1 -l true : -n1 false", "salloc -n1 : -n1 bash -c 'echo $SLURM_HET_SIZE; srun -l --het-group=0,1 echo hi | sort'",
]  # fmt: skip

_ARRAYS = [
    "sub -H -J arr -a 1-5 long.sh; scontrol hold ${J}_4; scontrol release $J; sleep 1; squeue -h -r -j $J -o '%K %t %r' | sort -n | cut -d' ' -f1-3",
    "sub -a 1-4%1 -J arr --mem=100 -o /dev/null long.sh; sleep 3; scontrol hold ${J}_4; squeue -h -r -j $J -o '%K %r' | sort -n",
    "sub -a 1-4%1 -J arr --mem=100 -o /dev/null long.sh; sleep 3; scontrol update jobid=$J arraytaskthrottle=3; scontrol show job $J | grep -oE 'ArrayTaskThrottle=[0-9]+' | sort -u",
    "sub -H -J arr -a 1-5 long.sh; scontrol update jobid=${J}_5 timelimit=9; squeue -h -r -j $J -o '%K %l' | sort -n",
    "sub -H -J arr -a 1-5 long.sh; scontrol update jobid=${J}_[2-3] nice=7; squeue -h -r -j $J -o '%K %y' | sort -n",
    "sub -H -J arr -a 1-5 long.sh; scancel ${J}_[2-3]; sleep 1; squeue -h -r -t PD -j $J -o '%K' | sort -n | xargs",
    "sub -H -J arr -a 1-5 long.sh; scontrol hold ${J}_9; scontrol update jobid=${J}_9 nice=1; scancel ${J}_9; echo $?",
    "sub -H -J held -t 5 long.sh; A=$J; sub -H -J held -t 5 long.sh; scontrol release name=held; sleep 1; squeue -h -n held -o %t | sort | xargs; scontrol hold name=held; echo $?",
]  # fmt: skip

_TIMES = [
    "TZ=America/New_York sbatch -H --parsable -b 2028-02-29T12:00 ok.sh > id; TZ=UTC squeue -h -j $(cat id) -o %S; scancel $(cat id)",
    "TZ=America/New_York sbatch -H --parsable --deadline 2028-02-29T12:00 -t 5 ok.sh > id; TZ=UTC squeue -h -j $(cat id) -O deadline:20; scancel $(cat id)",
    "sub -H --deadline=now+1hour ok.sh; squeue -h -j $J -o %l | sed -E 's/^(59:|1:00:).*/left/'",
    "sub -H --deadline=now+1hour -t 30 --time-min=5 ok.sh; squeue -h -j $J -o %l",
    "sbatch -b now+2hours --deadline=now+1hour -t 5 ok.sh", "sbatch --deadline=now+1minute -t 30 ok.sh",
    *[f"sub -H -b {text} ok.sh && SLURM_TIME_FORMAT=%Hh%M squeue -h -j $J -O eligibletime:8" for text in ("noon-tomorrow", "tomorrow-noon", "16:00-tomorrow", "2030-01-02-03:04:05", "uts2000000000", "elevenses")],
    "scontrol update jobid=999999 starttime=noon-tomorrow",
]  # fmt: skip

_CONTROL = [
    "scontrol create part=pp nodes=node1; scontrol show part pp | grep -oE '(PartitionName|Nodes)=[^ ]*'; scontrol update part=pp maxt=7; sinfo -h -p pp -o %l; scontrol delete part=pp",
    "scontrol create res=rr start=now+1hour dur=6 u=root nodec=1; scontrol show res rr | grep -oE '(Duration|NodeCnt|Users)=[^ ]*'; scontrol delete res=rr",
    *[f"scontrol create reservationname=rf start=now+1hour duration=10 users=root nodecnt=1 flags={flags}; scontrol show res rf | grep -oE 'Flags=[^ ]*'; scontrol delete reservationname=rf" for flags in ("flex", "magnetic", "replace", "replace_down", "purge_comp=5", "time_float", "daily", "weekly", "weekday", "weekend", "ignore_jobs", "overlap", "any_nodes", "static_alloc", "no_hold_jobs_after", "part_nodes", "nosuch")],
    "scontrol create reservationname=rg start=now+1hour duration=10 groups=root nodecnt=1; scontrol show res rg | grep -oE '(Users|Groups)=[^ ]*' | sort; scontrol delete reservationname=rg",
    "scontrol create reservationname=rc start=now+1hour duration=10 users=root corecnt=2; scontrol show res rc | grep -oE 'CoreCnt=[^ ]*'; scontrol delete reservationname=rc",
    "scontrol create reservationname=ra start=now+1hour duration=10 users=root nodecnt=1; sbatch -H --parsable --reservation=ra,nosuch ok.sh; scontrol delete reservationname=ra",
    _NODE + _RUNNING + "scontrol update nodename=node1 state=down reason=test; sleep 2; squeue -h -t all -j $J -o %t; scontrol update nodename=node1 state=resume; node idle",
    _NODE + "sub --no-requeue -t 5 --mem=100 -o /dev/null long.sh; state RUNNING; scontrol update nodename=node1 state=down reason=test; sleep 2; squeue -h -t all -j $J -o '%t %r'; scontrol update nodename=node1 state=resume; node idle",
    _NODE + "sub ok.sh; state COMPLETED; scontrol update nodename=node1 state=drain reason=why; sinfo -h -R -o '%E %u'; scontrol update nodename=node1 state=undrain; node idle",
    _HELD + "scontrol -d show job $J | grep -oE '(JobId|JobState|Reason|TRES|NumNodes|NumCPUs|NumTasks|CPUs/Task|MinMemoryNode|Command|WorkDir|Requeue|Restarts|BatchFlag|Dependency|Priority|Nice|TimeLimit|TimeMin|Features|OverSubscribe|Contiguous|Licenses|Network|Power)=[^ ]*' | sort",
    _RUNNING + "scontrol -d show job $J | grep -oE '(Nodes|CPU_IDs|Mem|GRES)=[^ ]*' | sort",
    _RUNNING + "scontrol update jobid=$J numnodes=0; scontrol update jobid=$J numnodes=3; scontrol update jobid=$J nodelist=nosuch; echo $?",
    "sub fail.sh; state FAILED; scontrol requeuehold state=specialexit $J; sleep 3; squeue -h -t all -j $J -o '%t %r'; scontrol hold $J; echo $?; scontrol release $J; sleep 2; squeue -h -t all -j $J -o %t",
    "sub fail.sh; state FAILED; scontrol requeue incomplete $J; echo $?; scontrol requeuehold incomplete $J; echo $?; squeue -h -t all -j $J -o %t",
    "sub fail.sh; state FAILED; scontrol requeuehold state=specialexit $J; sleep 3; squeue -h -t SE -j $J -o '%t %T %r'; scontrol show job $J | grep -oE 'JobState=[^ ]*'",
    "scontrol show assoc_mgr | head -1 | cut -c1-25", "scontrol show assoc_mgr flags=nope", "scontrol show assoc_mgr users=nosuchuser flags=users",
    "scontrol show config | grep -cE '^(OverTimeLimit|SlurmctldPort|SLURM_CONF|MaxTasksPerNode|JobAcctGatherFrequency|SlurmUser|FairShareDampeningFactor|AllowSpecResourcesUsage) '",
    "scontrol show config | grep -oE '^[A-Za-z]+' | sort -u | head -60 | xargs", "scontrol show config | grep -oE '^[A-Za-z]+' | sort -u | tail -n +61 | xargs",
]  # fmt: skip

_STEPS = [
    "sub -n4 -t 5 --mem=400 -o o.txt --wrap 'srun -c1 --exclusive --mem=50 echo hi | wc -l'; state COMPLETED; cat o.txt",
    "sub -n1 -t 5 --mem=400 -o o.txt --wrap 'srun -N1 --ntasks-per-node=2 -O --mem=50 echo hi | wc -l'; state COMPLETED; cat o.txt",
    "sub -n1 -O -t 5 --mem=100 -o o.txt --wrap 'echo $SLURM_NTASKS $SLURM_OVERCOMMIT $SLURM_CPUS_ON_NODE'; state COMPLETED; cat o.txt",
    "sub -n2 -O -t 5 --mem=100 -o o.txt --wrap 'echo $SLURM_NTASKS $SLURM_CPUS_ON_NODE; srun echo hi | wc -l'; state COMPLETED; cat o.txt",
    "sub -t 5 --mem=100 -o /dev/null --wrap 'srun -t 2 sleep 300'; state RUNNING; sleep 2; squeue -h -s -j $J -o '%l' | sort; scontrol show step $J.0 | grep -oE 'TimeLimit=[^ ]*'; scontrol update stepid=$J.0 timelimit=3; scontrol show step $J.0 | grep -oE 'TimeLimit=[^ ]*'; scontrol update stepid=$J.9 timelimit=3",
    "srun --mem=6 -t 1 true", "srun -n1 --reservation=nosuch,r2 true", "srun -v -n1 -t 1 true 2>&1 | grep -oE 'nodes\\(1\\):.node1|launching StepId=|cpu counts: 1\\(x1\\)' | sort -u",
    "SLURM_DEBUG=1 srun -n1 -t 1 true 2>&1 | grep -cE 'launching StepId'", "srun -Q -n1 -t 1 true", "sbatch -v -H ok.sh 2>&1 | grep -vE '[Bb]atch job|debug|lua|cli_filter'",
    "sbatch -vv -H -J x -n2 -t 5 --mem=100 ok.sh 2>&1 | grep -E '^sbatch: (defined|end|-----|job-name|ntasks|time|mem|hold|verbose)'",
    "SBATCH_DEBUG=1 sbatch -H -J x ok.sh 2>&1 | grep -E '^sbatch: (defined|end|job-name)'",
    "printf 'node1\\nnode1\\n' > hosts; SLURM_HOSTFILE=$PWD/hosts sbatch -H --parsable -n2 -m arbitrary ok.sh > id; squeue -h -j $(cat id) -o '%n %C'; scancel $(cat id)",
    "sub -n2 -t 5 --mem=100 -o o.txt --wrap 'printf \"0 echo a\\n1 echo b\\n\" > mp; srun --multi-prog mp | sort'; state COMPLETED; cat o.txt",
    "sub -t 5 -o o.txt --wrap 'echo ${SLURM_TASK_PID:+pid}'; state COMPLETED; cat o.txt",
    *[
        f"sub {words} -t 5 --mem=100 -o o.txt --wrap 'echo ${{SLURM_NTASKS-none}} ${{SLURM_NPROCS-none}} ${{SLURM_CPUS_PER_TASK-none}} $SLURM_TASKS_PER_NODE; srun hostname | wc -l'; state COMPLETED; cat o.txt"
        for words in ("", "-n1 -c1", "-N1", "-c2", "-n2", "--ntasks-per-node=2", "-n1 --exclusive")
    ],
    "salloc -Q -t 1 sh -c 'echo ${SLURM_NTASKS-none} ${SLURM_CPUS_PER_TASK-none}'",
    "salloc -Q -t 1 -n1 -c1 sh -c 'echo ${SLURM_NTASKS-none} ${SLURM_CPUS_PER_TASK-none}'",
    "mkdir d; printf '#!/bin/sh\\necho in d\\n' > d/here.sh; printf '#!/bin/sh\\necho above\\n' > here.sh; sub -D d -o o.txt here.sh; state COMPLETED; cat d/o.txt",
    "printf '#!/bin/sh\\necho script\\n' > cwd.sh; chmod +x cwd.sh; salloc -n1 -t 1 cwd.sh", "salloc -n1 -t 1 ./ok.sh", "salloc -n1 -t 1 nosuchcommand",
    "sub -k -n1 -t 5 -o o.txt --wrap 'echo $SLURM_NO_KILL'; state COMPLETED; cat o.txt", "sub -H --contiguous -N1 ok.sh; squeue -h -j $J -o %O; scontrol show job $J | grep -oE 'Contiguous=.'",
]  # fmt: skip

_GPUS = [
    "sub -H --gpus=2 ok.sh; scontrol show job $J | grep -oE '(TRES|TresPerJob|TresPerNode)=[^ ]*'; squeue -h -j $J -o %b",
    "sub -H --gres=gpu:1 ok.sh; scontrol show job $J | grep -oE '(TRES|TresPerNode)=[^ ]*'; squeue -h -j $J -O tres-alloc:60,tres-per-node:20,gres:10",
    "sub -H --gpus-per-task=1 -n2 ok.sh; scontrol show job $J | grep -oE '(TRES|TresPerTask)=[^ ]*'",
    "sub --gpus=1 -t 5 --mem=100 -o /dev/null long.sh; state RUNNING; scontrol show job $J | grep -oE 'TRES=[^ ]*'; squeue -h -j $J -O tres-alloc:60; scontrol show node node1 | grep -oE '(CfgTRES|AllocTRES|Gres)=[^ ]*'; sinfo -h -p main -O gres:20,gresused:30",
    "sub --gpus=1 -t 5 --mem=100 -o o.txt --wrap 'echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS $SLURM_GPUS $SLURM_GPUS_ON_NODE'; state COMPLETED; cat o.txt",
    "sbatch --gpus=9 ok.sh", "sbatch --gpus=nosuch:1 ok.sh", "sbatch --gres=gpu:a100:1 ok.sh", "sbatch --gpus=x ok.sh",
]  # fmt: skip

_CANCEL = [
    "sub ok.sh; state COMPLETED; echo y | scancel -i $J; echo $?", _RUNNING + "echo n | scancel -i $J; squeue -h -j $J -o %t",
    "scancel -v -n nosuchname 2>&1", "scancel -v -u root -t PD -n nosuchname 2>&1", "scancel -v --me -p main 2>&1",
    "sub -t 5 --mem=100 -o /dev/null --wrap 'srun sleep 300'; state RUNNING; sleep 2; echo y | scancel -i $J.0; sleep 1; squeue -h -s -j $J -o %i | sed s/$J/J/",
    "sub -t 5 --mem=100 -o /dev/null --wrap 'srun sleep 300'; state RUNNING; sleep 2; scancel -v $J.0 2>&1 | sed s/$J/J/; scancel $J.7",
    *[f"squeue -h -t {state} -n nosuchname; echo $?" for state in _STATES],
]  # fmt: skip

_TRIGGERS = [
    _RUNNING + "strigger --set -j $J --fini -p $PWD/ok.sh; strigger --get -N -j $J | awk '{print $2,$4}'; strigger --clear -j $J; strigger --get -N -j $J",
    _RUNNING + "strigger --set -j $J --time --offset=-60 -p $PWD/ok.sh; strigger --get -N -j $J | awk '{print $2,$4}'; strigger --clear -j $J",
    "strigger --set --node=node1 --down -p $PWD/ok.sh; strigger --get -N | awk '{print $2,$3,$4}'; strigger --clear --user=root; strigger --get -N",
    "strigger --set -j 999999 --fini -p /bin/true", "strigger --set --fini -p /bin/true", "strigger --set -j 1 -p /bin/true", "strigger --set --down --fini -j 1 -p /bin/true", "strigger --get -j abc", "strigger --set --down -p true", "strigger --get", "strigger --clear -i 999999",
]  # fmt: skip

CASES = _HET + _ARRAYS + _TIMES + _CONTROL + _STEPS + _GPUS + _CANCEL + _TRIGGERS

_DONE = "sub -J today -t 5 -n 2 --mem=100 --gpus=1 -o /dev/null ok.sh; state COMPLETED; sleep 1; "
_ENDED = "for _ in $(seq 100); do sacct -nXP -j $J -o end,jobname 2>/dev/null | grep 20 | grep -qv allocation && break; sleep 0.1; done; "
# 要 slurmdbd。
ACCOUNTING_CASES = [
    _DONE + _ENDED + "sacct -nXP -j $J -o reqtres,alloctres,state; sacct -nXP -s PD -S now-1hour -E now -j $J -o state; sacct -nXP -s CD -S now-1hour -E now-30minutes -j $J -o state; sacct -nXP -T -S now-1hour -E now -j $J -o state",
    *[f"sacct -nXP -s {state} -S now-1minute -E now --name=nosuchname -o state; echo $?" for state in _STATES],
    *[f"sacct -nXP -S {text} --name=nosuchname; echo $?" for text in ("1970-01-01", "1970-01-01-00:00:01", "1973-03-02", "1969-12-31", "2106-01-01")],
    "sacct -nXP -s R -E now --name=nosuchname; echo $?", "sacct -nXP -s CD --name=nosuchname; echo $?",
    "sub -J again -t 5 --mem=100 -o /dev/null ok.sh; state COMPLETED; scontrol requeue $J; sleep 4; state COMPLETED; sleep 1; " + _ENDED + "sacct -nXP -j $J -o state; sacct -D -nXP -j $J -o state",
    "sub -H -n1 -J het0 : -n1 -J het1 long.sh; sacct -nXP -j $J -o jobid,jobname | sed s/$J/J/; scancel $J; sleep 1; sacct -nXP -j $J+1 -o jobid,state | sed s/$J/J/",
    *[f"sacctmgr {words}" for words in (
        "-i modify cluster compare set nosuch=1", "show cluster nosuch -nP", "-i add account tda", "-i add account tdb", "-i add user tdu DefaultAccount=tda account=tdb", "show assoc user=tdu -nP format=account,user", "-i add user TDU2 account=tda", "show user tdu2 -nP format=user", "-i modify user tdu set MaxJobsPerUser=4", "-i modify user tdu set MaxSubmitPU=5", "-i modify user tdu set MaxSubmitJobs=5", "show assoc user=tdu account=tda -nP format=maxjobs,maxsubmit",
        "-i modify user tdu set maxwall=1:00:00 grpjobs=9 priority=7", "show assoc user=tdu account=tda -nP format=maxwall,grpjobs,priority", "-i add coordinator account=tda names=tdu", "show account tda withcoord -nP format=account,coord", "-i delete coordinator account=tda names=tdu", "-i modify account tda set parent=tdb", "-i modify account tdb set parent=tda", "-i delete user tdu where account=tdb", "-i delete user tdu,tdu2", "-i delete account tda,tdb",
    )],
]  # fmt: skip
