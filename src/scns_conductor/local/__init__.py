"""组合根：内嵌 PostgreSQL 与 Valkey，scns up。

这里可以依赖全部房间。引擎（postgres、valkey）只听数据目录里的套接字；监督者（supervisor）是唯一的父进程，
system 把它们按次序接起来，up 是一次运行从头到尾的一生。
"""
