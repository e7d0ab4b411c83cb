"""一直重复的同一句警告不淹没日志：一分钟写一行，说省下了几次。"""

import io
import json
import logging

import structlog

from scns_conductor.core.logging import REPEAT_S, RepeatFilter, configure_logging
from scns_conductor.core.settings import Settings


class Clock:
    """可以拨的钟。"""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_warning_is_written_once_a_minute_and_counted() -> None:
    clock = Clock()
    written, stream = RepeatFilter(clock), io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging(Settings(log_format="json"))
        handler = root.handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(stream)
        handler.filters[:] = [written]
        plain, bound = logging.getLogger("plain"), structlog.get_logger("bound")
        for second in range(int(REPEAT_S) + 1):
            clock.now = float(second)
            plain.warning("scheduler_interrupted", extra={"error": "Connection refused"})
            bound.warning("audit_failed", error="Connection refused")
            # 不一样的、不是警告的、带着经过的都照写。
            plain.warning("bus_unavailable", extra={"second": second})
            plain.info("request", extra={"status": 200})
            try:
                raise ValueError("坏了")
            except ValueError:
                plain.exception("launch_plan_failed")
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for event in ("scheduler_interrupted", "audit_failed"):
        told = [line for line in lines if line["event"] == event]
        assert [line.get("repeated") for line in told] == [None, int(REPEAT_S) - 1]
        assert told[0]["error"] == told[1]["error"] == "Connection refused"
    for event in ("bus_unavailable", "request", "launch_plan_failed"):
        assert sum(line["event"] == event for line in lines) == int(REPEAT_S) + 1


def test_what_is_remembered_is_bounded() -> None:
    written = RepeatFilter(Clock())
    record = logging.makeLogRecord({"levelno": logging.WARNING, "msg": "first"})
    assert written.filter(record)
    for number in range(1000):
        assert written.filter(logging.makeLogRecord({"levelno": logging.WARNING, "msg": f"{number}"}))
    assert written.filter(record)
    assert not written.filter(record)
