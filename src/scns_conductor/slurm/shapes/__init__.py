"""Slurm 各版 JSON 的样子：--json、--yaml 与 slurmrestd 共用；字段、类型与枚举在 fields.txt。"""
