"""torchrun 那样的启动的替身：每节点一个启动者，各起几个工作进程，在第一台主机上会合，做一次 all-reduce。

用法：rendezvous.py 主机 端口 每节点工作进程数；要 SLURM_NODEID 与 SLURM_NNODES。只用标准库。
"""

import os
import socket
import struct
import sys
import time

WAIT_S = 30.0


def connected(host: str, port: int) -> socket.socket:
    """连到会合点；它可能还没有起来。"""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection((host, port), timeout=WAIT_S)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def worker(host: str, port: int, rank: int, size: int) -> None:
    """0 号收齐大家的数，把和发回去。"""
    if rank == 0:
        with socket.create_server((host, port), backlog=size) as listener:
            listener.settimeout(WAIT_S)
            peers = [listener.accept()[0] for _ in range(size - 1)]
        total = sum(struct.unpack("!q", peer.recv(8, socket.MSG_WAITALL))[0] for peer in peers)
        for peer in peers:
            peer.sendall(struct.pack("!q", total))
    else:
        with connected(host, port) as link:
            link.sendall(struct.pack("!q", rank))
            total = struct.unpack("!q", link.recv(8, socket.MSG_WAITALL))[0]
    print(f"rank {rank}/{size} on {os.environ['SLURMD_NODENAME']} sum {total}", flush=True)


def main() -> None:
    """启动者：等全部工作进程，任何一个失败就失败。"""
    host, port, local = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    node, nodes = int(os.environ["SLURM_NODEID"]), int(os.environ["SLURM_NNODES"])
    children = []
    for index in range(local):
        pid = os.fork()
        if pid == 0:
            worker(host, port, node * local + index, nodes * local)
            os._exit(0)
        children.append(pid)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))


if __name__ == "__main__":
    main()
