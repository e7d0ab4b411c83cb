#!/usr/bin/env python3
"""收 webhook 的最小的样子：核对签名与时刻，认出重的，把事打印出来。只用标准库。

python webhook_receiver.py 端口 密钥        （密钥是 scns webhooks add 打印的 whsec_…）
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# 时刻差得太多的不收：截下来的请求过后再放一遍没有用（秒）。
TOLERANCE_S = 300
SEEN: set[str] = set()


def genuine(secret: str, headers: Any, body: bytes) -> bool:
    """签名对不对：HMAC-SHA256（webhook-id.webhook-timestamp.请求体），Standard Webhooks。"""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    # 空格分开的几个签名，有一个对就行；逐字节比，花的时间不泄露哪里不同。
    return any(hmac.compare_digest(expected, given) for given in headers.get("webhook-signature", "").split(" "))


class Receiver(BaseHTTPRequestHandler):
    """每个 POST 一件事。"""

    def do_POST(self) -> None:
        """收下一件。"""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not genuine(SECRET, self.headers, body):
            self.send_error(401)
            return
        message_id = self.headers["webhook-id"]
        if message_id not in SEEN:
            # 至少送一次：没有及时答 2xx 的会再来，webhook-id 不变。
            SEEN.add(message_id)
            event = json.loads(body)
            data = event["data"]
            print(event["type"], data.get("job_id", "-"), data.get("name", "-"), data.get("exit_code", "-"), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """不记访问日志。"""


if __name__ == "__main__":
    PORT, SECRET = int(sys.argv[1]), sys.argv[2]
    ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
