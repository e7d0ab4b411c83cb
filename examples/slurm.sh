#!/bin/sh
# Slurm 的命令照旧用：sbatch、squeue、srun、sacct、scancel。
set -eu
bin=$(mktemp -d)
trap 'rm -r "$bin"' EXIT
scns slurm install --prefix "$bin" >/dev/null
PATH=$bin:$PATH

cat > steps.sh <<'SCRIPT'
#!/bin/bash
#SBATCH --job-name=steps
#SBATCH --ntasks=2
#SBATCH --time=5
srun --label hostname -s >/dev/null
srun --ntasks=2 sh -c 'echo "任务 $SLURM_PROCID"' | sort
SCRIPT
job=$(sbatch --parsable --wait --output=steps.out steps.sh)
cat steps.out
sacct -j "$job" -n -P -o JobID,State
squeue -h -j "$job"
