"""调度进程（领导者与候选）：单线程的循环；只碰 core、statements、scheduling、wire 与总线。从 process.py 读起。"""
