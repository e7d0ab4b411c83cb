"""节点代理，每个节点一个进程：控制线程做事，收尾、心跳、总线各有线程。

只碰 core、statements、wire、host。从 process.py 读起。
"""
