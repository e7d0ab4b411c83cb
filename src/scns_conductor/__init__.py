"""SCNS-Conductor：作业调度系统。"""

__version__ = "0.1.0"
