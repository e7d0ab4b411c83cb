"""把通知发出去：一批一条 SMTP 连接，每一封各有结果；过一会儿再试的间隔加倍，两天还不行就不再试。"""

import logging
import smtplib
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Engine

from scns_conductor.core.mail import array_as_a_whole
from scns_conductor.core.settings import Settings
from scns_conductor.statements.notifications import ARRAY_OUTCOMES, RESULTS, TO_SEND
from scns_conductor.worker.background.mail_text import message_of
from scns_conductor.worker.background.retries import NEVER, retry_s

CONNECT_WAIT_S = 20.0

logger = logging.getLogger(__name__)


class _Result(NamedTuple):
    """一封的结果：error 为 None 是发了，否则 retry_s 秒之后再试（NEVER 不再试）。"""

    error: str | None = None
    retry_s: float = 0.0


class Delivery:
    """发邮件。"""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    def deliver(self, notification_ids: Sequence[int]) -> None:
        """发这些；已经发过的略过。数据库不在时抛 DBAPIError（到时候再排）。"""
        with self._engine.begin() as connection:
            rows = connection.execute(TO_SEND, {"notification_ids": list(notification_ids)}).all()
            arrays = [row.job_id for row in rows if _whole_array(row)]
            outcomes: dict[int, list[Any]] = {}
            for each in connection.execute(ARRAY_OUTCOMES, {"array_job_ids": arrays}) if arrays else ():
                outcomes.setdefault(each.array_job_id, []).append(each)
        if not rows:
            return
        results = self._send(rows, outcomes)
        with self._engine.begin() as connection:
            connection.execute(
                RESULTS,
                {
                    "notification_ids": [row.notification_id for row in rows],
                    "errors": [result.error for result in results],
                    "retries_s": [result.retry_s for result in results],
                },
            )

    def _send(self, rows: Sequence[Any], outcomes: dict[int, list[Any]]) -> list[_Result]:
        """各封的结果，与 rows 一一对应。"""
        results: list[_Result] = []
        server: smtplib.SMTP | None = None
        try:
            server = self._connect()
            for row in rows:
                results.append(self._send_one(server, row, outcomes))
        except (OSError, smtplib.SMTPException) as error:
            # 连不上、断了：没有轮到的都等会儿再试。
            logger.warning("mail_server_unavailable", extra={"error": str(error), "waiting": len(rows) - len(results)})
            results += [_Result(f"邮件服务器：{error}", _retry_s(row)) for row in rows[len(results) :]]
        finally:
            if server is not None:
                server.close()
        return results

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        host, port = settings.smtp_host or "", settings.smtp_port
        if settings.smtp_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, timeout=CONNECT_WAIT_S, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(host, port, timeout=CONNECT_WAIT_S)
        try:
            if settings.smtp_security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.smtp_user is not None:
                password = settings.smtp_password
                server.login(settings.smtp_user, password.get_secret_value() if password else "")
        except BaseException:
            server.close()
            raise
        return server

    def _send_one(self, server: smtplib.SMTP, row: Any, outcomes: dict[int, list[Any]]) -> _Result:
        """连接断了抛 SMTPServerDisconnected 或 OSError；只是这一封的毛病不抛，后面的照发。"""
        try:
            whole = outcomes.get(row.job_id, []) if _whole_array(row) else []
            refused = server.send_message(message_of(row, whole, self._settings))
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            return _Result(f"收件人被拒：{_told(error.recipients)}", NEVER if min(codes) >= 500 else _retry_s(row))
        except smtplib.SMTPResponseException as error:
            told = f"邮件服务器：{error.smtp_code} {_text(error.smtp_error)}"
            return _Result(told, NEVER if error.smtp_code >= 500 else _retry_s(row))
        except (smtplib.SMTPNotSupportedError, ValueError) as error:
            # 收件人不是 ASCII 而服务器没有 SMTPUTF8，或写不成邮件：再试也一样。
            return _Result(f"邮件服务器：{error}", NEVER)
        if refused:
            # 有的收件人收了：不再发，免得他们收两遍。
            logger.warning("mail_partly_refused", extra={"job_id": row.job_id, "error": _told(refused)})
        return _Result()


def _whole_array(row: Any) -> bool:
    return row.array_job_id == row.job_id and array_as_a_whole(row.mail_type or "")


def _retry_s(row: Any) -> float:
    return retry_s(row.attempts, (row.now - row.created_at).total_seconds())


def _told(recipients: dict[str, tuple[int, bytes]]) -> str:
    return "；".join(f"{address} {code} {_text(said)}" for address, (code, said) in recipients.items())


def _text(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
