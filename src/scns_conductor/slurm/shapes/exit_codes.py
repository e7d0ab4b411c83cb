"""退出码：SUCCESS、ERROR、SIGNALED、PENDING，返回码与信号。"""

import signal
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
_NAMES = {each.value: each.name.removeprefix("SIG") for each in signal.Signals}


def exit_code(row: Row) -> dict[str, Any]:
    """作业或作业步的 process_exit_code_verbose；还没有结束、也没有退出码的是 PENDING。"""
    if row.get("exit_status") is None and not row.get("end_time"):
        return {"status": ["PENDING"]}
    status, number = int(row.get("exit_status") or 0), int(row.get("exit_signal") or 0)
    if number:
        found = {"id": number, "name": _NAMES.get(number, str(number))}
        return {"status": ["SIGNALED"], "return_code": status, "signal": found}
    return {"status": ["ERROR" if status else "SUCCESS"], "return_code": status}
