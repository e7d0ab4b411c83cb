#!/bin/sh
# 作业数组：一份脚本、十个任务，同时至多四个；各有各的输出。
set -eu
job=$(scns submit --parsable -J squares -a 0-9%4 -o square-%a.out - <<'SCRIPT'
#!/bin/bash
echo $((SLURM_ARRAY_TASK_ID * SLURM_ARRAY_TASK_ID))
SCRIPT
)
# 依赖整个数组的一个作业：等全部任务成功了再做。
scns submit --wait --quiet -J sum -d "afterok:$job" --wrap 'cat square-*.out | paste -sd+ | bc || awk "{s+=\$1} END {print s}" square-*.out'
