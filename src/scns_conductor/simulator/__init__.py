"""调度模拟器：用虚拟时钟把作业踪迹（SWF）或历史重放进 `scheduling/`，与线上调度器用的是同一份代码。

swf、history 读入；workload 清洗；machine 描述机器；replay 重放；metrics 求指标；report、plots 输出。
rlscheduler 是另一回事：它照搬一篇论文的循环（连同怪癖），只为复现那张表。
只可依赖 `scheduling/` 与 `core` 的值类型；不碰数据库和网络。
"""
