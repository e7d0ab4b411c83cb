"""Slurm 命令的薄翻译层。可依赖 client 与 services。"""
