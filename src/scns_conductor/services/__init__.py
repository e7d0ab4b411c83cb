"""业务：一个函数一个事务（提交、取消、保留、查询……）。语句在 statements，在自己的会话上执行；API 不写业务。

碰 core、statements，以及 scheduling 的纯函数（提交时就看放不放得下）。

凡是调度器必须知道的变化，都在同一个事务里经 scheduler_inbox 告诉它；要调度器或节点做的事，经 answers 去问。
"""
