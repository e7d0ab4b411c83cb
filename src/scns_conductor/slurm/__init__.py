"""Slurm 的命令：对 client 的薄翻译，文字、格式、退出码照 Slurm 22.05。

只用标准库与 client、core 里轻的模块：squeue、sbatch 要在 120 毫秒之内答完。
"""
