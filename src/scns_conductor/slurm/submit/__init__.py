"""sbatch 与 salloc。"""
