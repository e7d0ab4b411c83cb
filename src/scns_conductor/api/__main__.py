"""python -m scns_conductor.api：API 进程。SCNS_API_FD 是父进程交来的监听套接字（scns up），没有就自己监听。"""

import gc
import logging
import os
import socket
import sys

import uvicorn

from scns_conductor.core.errors import ConductorError
from scns_conductor.core.listener import bound_listener
from scns_conductor.core.logging import configure_logging
from scns_conductor.core.settings import current_user_name, load_settings
from scns_conductor.language import told

DRAIN_S = 10
# 客户端的长连接闲这么久才断（秒）。
KEEP_ALIVE_S = 75


def main() -> None:
    """启动并运行，直到收到 SIGTERM 或 SIGINT。"""
    # 载入的几十万个对象都留着：载入时一遍遍地找垃圾要占去启动的两成。就绪之前（build_app）再打开。
    gc.disable()
    try:
        settings = load_settings()
        configure_logging(settings)
        settings.require_key_to_listen(settings.api_host)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handed_over = os.environ.get("SCNS_API_FD")
        if handed_over:
            listener = socket.socket(fileno=int(handed_over))
        else:
            listener = bound_listener(settings.api_host, settings.api_port, "api")
        from scns_conductor.api.app import build_app
        from scns_conductor.api.connections import ConnectionLimits, protocol_for
        from scns_conductor.api.local_socket import LocalSocket
        from scns_conductor.slurmrestd.dispatch import router as slurmrestd

        # 作业的 JSON 与命令共用一套换算，集群名从这里取。
        os.environ["SLURM_CLUSTER_NAME"] = settings.cluster_name
        app = build_app(settings, [slurmrestd])
        local = None if settings.api_socket is None else LocalSocket(settings.api_socket)
    except ConductorError as error:
        print(told(str(error)), file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(
            told(f"{error.filename}：{error.strerror}；API 以 {current_user_name()} 的身份运行，要能写它"),
            file=sys.stderr,
        )
        sys.exit(2)
    limits = ConnectionLimits(
        settings.api_connections, settings.api_connections_per_address, settings.api_header_timeout_s
    )
    limits.fit_open_files()
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http=protocol_for(limits),
        access_log=False,
        log_config=None,
        server_header=False,
        # 不看 X-Forwarded-*：这里用不到客户端的地址。
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=1024,
    )
    # 接受的连接会继承它：回答的头与正文分两次写，没有它就要等对方 40 毫秒的延迟确认。
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not handed_over:
        host, port = listener.getsockname()[:2]
        logging.getLogger(__name__).info("api_listening", extra={"host": host, "port": port})
    try:
        uvicorn.Server(config).run(sockets=[listener] if local is None else [listener, local.listener])
    finally:
        if local is not None:
            local.close()


if __name__ == "__main__":
    main()
