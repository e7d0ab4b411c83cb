"""日志：structlog 一套，控制台或 JSON（一行一条）；标准库的日志也走同一处。

每一行带 contextvars 里绑定的键（request_id、job_id……）；口令、令牌一类的键一律遮住。
一模一样的警告与错误（数据库不在时每半秒一次的）一分钟里只写一行，下一行的 repeated 是省下了几次。
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

# structlog 看见 rich 就装载它，给经过上色：每个进程多花一成的启动与 6 MiB，日志是写给文件的，不要。
_RICH_IS_NEW = sys.modules.setdefault("rich", None) is None  # type: ignore[arg-type]
import structlog  # noqa: E402

if _RICH_IS_NEW:
    del sys.modules["rich"]

if TYPE_CHECKING:
    from scns_conductor.core.settings import Settings


_SECRET_WORDS = ("token", "password", "secret", "authorization", "database_url", "redis_url", "jwt_key")
REPEAT_S = 60.0
# 至多记得这么多种；满了忘掉最早的。
_MOST_REMEMBERED = 256
# 每条记录都有的属性；别的是 extra 给的。uvicorn 的 color_message 是同一句话带颜色，不要。
_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"})


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """遮住可能含秘密的键；structlog 的处理器。"""
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "***"
    return event


class RepeatFilter(logging.Filter):
    """只放过一段时间里一模一样的警告、错误的第一行；带着经过（exc_info）的总是放过。clock 是单调的秒。"""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        # 内容 -> [上次写出的时刻, 之后省下的次数]
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """要不要写。"""
        vars(record).pop("color_message", None)
        if record.levelno < logging.WARNING or record.exc_info:
            return True
        # structlog 的记录，内容是一个字典，时刻已经写在里面。
        if isinstance(record.msg, dict):
            fields, left_out, text = record.msg, frozenset({"time"}), ""
        else:
            fields, left_out, text = vars(record), _STANDARD, record.getMessage()
        if fields.get("exc_info"):
            return True
        varying = {**structlog.contextvars.get_contextvars(), **fields}
        key = (record.name, text, *(f"{name}={value!r}" for name, value in varying.items() if name not in left_out))
        now = self._clock()
        with self._lock:
            seen = self._seen.pop(key, None)
            if seen is not None and now - seen[0] < REPEAT_S:
                self._seen[key] = (seen[0], seen[1] + 1)
                return False
            if len(self._seen) >= _MOST_REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = (now, 0)
        if seen is not None and seen[1]:
            fields["repeated"] = seen[1]
        return True


def configure_logging(settings: "Settings") -> None:
    """进程启动时调用一次；写到标准错误。"""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        mask_secrets,
    ]
    renderer: Any
    if settings.log_format == "json":
        # 各层的局部变量不写：口令、脚本都在里面。
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared.append(structlog.processors.ExceptionRenderer(transformer))
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        # 不用 rich 的：它把局部变量也印出来，载入也要 0.1 秒。
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
