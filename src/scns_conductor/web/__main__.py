"""python -m scns_conductor.web：看板的进程。--fd 是父进程交来的监听套接字（scns up），没有就自己监听。"""

import argparse
import logging
import socket
import sys
from pathlib import Path

import uvicorn

from scns_conductor.language import told
from scns_conductor.web.app import WebOptions, build_web
from scns_conductor.web.script_header import prepare
from scns_conductor.web.session import KeyUnusable

DRAIN_S = 2


def main() -> None:
    """启动并运行，直到收到 SIGTERM 或 SIGINT。"""
    parser = argparse.ArgumentParser(prog="python -m scns_conductor.web")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6821)
    parser.add_argument("--fd", type=int)
    parser.add_argument("--api-url", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--cluster", default="scns")
    parser.add_argument("--metrics", default="")
    given = parser.parse_args()
    prepare()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        app = build_web(WebOptions(given.api_url, given.data_dir, given.cluster, given.metrics))
    except KeyUnusable as error:
        print(told(str(error)), file=sys.stderr)
        sys.exit(2)
    config = uvicorn.Config(
        app,
        host=given.host,
        port=given.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    sockets = [socket.socket(fileno=given.fd)] if given.fd is not None else None
    uvicorn.Server(config).run(sockets=sockets)


if __name__ == "__main__":
    main()
