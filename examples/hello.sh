#!/bin/sh
# 提交一份脚本，等它结束，看它的输出；退出码就是作业的。
set -eu
scns submit --wait --quiet -J hello -c 1 --mem 100M -t 5 - <<'SCRIPT'
#!/bin/bash
echo "你好，我是作业 $SLURM_JOB_ID，有 $SLURM_CPUS_ON_NODE 个 CPU"
SCRIPT
