"""作业步的主人，每个节点每步一个进程（相当于 slurmstepd）：只用标准库、wire 与 host。从 process.py 读起。"""
