"""虚拟机里的一个小服务：从 virtio 串口读命令（一行一个 JSON），以 root 执行，回一行 JSON。只用标准库。"""

import base64
import json
import subprocess

with open("/dev/virtio-ports/scns.control", "r+b", buffering=0) as port:
    port.write(b'{"ready": true}\n')
    pending = b""
    while True:
        pending += port.read(65536) or b""
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            if not line.strip():
                continue
            wanted = json.loads(line)
            try:
                done = subprocess.run(
                    ["bash", "-c", wanted["command"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, timeout=wanted["wait_s"], check=False, cwd="/root",
                )  # fmt: skip
                code, output = done.returncode, done.stdout
            except subprocess.TimeoutExpired as error:
                code, output = 124, error.stdout or b""
            answer = {"id": wanted["id"], "code": code, "output": base64.b64encode(output).decode()}
            # 一次至多写 32 KiB，余下的再写。
            left = memoryview(json.dumps(answer).encode() + b"\n")
            while left:
                left = left[port.write(left) :]
