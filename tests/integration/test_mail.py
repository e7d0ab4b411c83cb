"""--mail-type 的邮件真的发出去：真的 SMTP 服务器（aiosmtpd）、真的作业。"""

import email
import email.policy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from lent_systems import SMTP_DOOR
from running_system import RunningSystem, database_url, free_port, start_system, wait_until

SCNS = str(Path(sys.executable).parent / "scns")
REFUSED = "nobody@nowhere.example"


class Mailbox:
    """收下的信；REFUSED 一律拒收。"""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], EmailMessage]] = []

    async def handle_RCPT(  # noqa: N802 aiosmtpd 的名字
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """收不收这个人的。"""
        if address == REFUSED:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """收下一封。"""
        content = envelope.content
        assert isinstance(content, bytes)
        letter = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append((list(envelope.rcpt_tos), letter))
        return "250 OK"

    def subjects(self, job_id: str) -> list[str]:
        """关于这个作业的信的标题，依次。"""
        return [str(letter["Subject"]) for _, letter in list(self.letters) if letter["X-SCNS-Job-ID"] == job_id]


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    """在听的邮件服务器。"""
    box, port = Mailbox(), SMTP_DOOR.getsockname()[1]
    SMTP_DOOR.close()
    controller = Controller(box, hostname="127.0.0.1", port=port, enable_SMTPUTF8=False)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture(scope="module")
def system(mailbox: Mailbox, lent_system: RunningSystem) -> RunningSystem:
    """配了邮件服务器的系统。"""
    return lent_system


def notifications(system: RunningSystem, job_id: str) -> list[dict[str, Any]]:
    status, answer = system.call("GET", f"/notifications?job_id={job_id}")
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["notifications"]
    return found


def settled(system: RunningSystem, job_id: str, *occasions: str) -> list[dict[str, Any]]:
    """等到这些都有了结果，返回全部。"""

    def done() -> bool:
        found = {one["occasion"]: one["state"] for one in notifications(system, job_id)}
        return set(occasions) <= set(found) and "QUEUED" not in found.values()

    wait_until(done, 90, f"{job_id} 的 {occasions}")
    return notifications(system, job_id)


def test_the_beginning_and_the_end_are_told_once_to_whom_it_was_asked(system: RunningSystem, mailbox: Mailbox) -> None:
    job = system.submit(
        "#!/bin/bash\nexit 3\n",
        name="训练\nBcc: eve@evil.example",
        mail_type="begin,end,fail",
        mail_user="ada,bob@else.example",
    )
    quiet = system.submit("#!/bin/bash\n:\n")
    system.wait_state(job)
    system.wait_state(quiet)
    settled(system, job, "BEGIN", "FAIL")
    subjects = mailbox.subjects(job)
    assert [subject.split("Name=")[1].split(",")[0] for subject in subjects] == [
        "训练 Bcc: eve@evil.example Began",
        "训练 Bcc: eve@evil.example Failed",
    ]
    assert subjects[1].endswith(", FAILED, ExitCode 3")
    everyone = [who for who, letter in mailbox.letters if letter["X-SCNS-Job-ID"] == job]
    assert everyone == [["ada@site.example", "bob@else.example"]] * 2
    assert not notifications(system, quiet)
    assert not mailbox.subjects(quiet)


def test_an_array_is_told_as_a_whole_or_task_by_task(system: RunningSystem, mailbox: Mailbox) -> None:
    script = "#!/bin/bash\nexit $((SLURM_ARRAY_TASK_ID == 2 ? 4 : 0))\n"
    whole = system.submit(script, array="1-3", mail_type="BEGIN,END", mail_user="ada")
    each = system.submit(script, array="1-3", mail_type="END,ARRAY_TASKS", mail_user="ada")
    for array in (whole, each):
        for task in (1, 2, 3):
            system.wait_state(f"{array}_{task}")
    found = settled(system, whole, "BEGIN", "END")
    assert sorted(one["occasion"] for one in found) == ["BEGIN", "END"]
    assert mailbox.subjects(whole)[-1].endswith("Ended, Mixed, ExitCode [0-4]")

    def told() -> list[str]:
        return [str(letter["Subject"]) for _, letter in mailbox.letters if f"Job_id={each}_" in str(letter["Subject"])]

    wait_until(lambda: len(told()) == 3, what="一个任务一封")
    assert sorted(subject.split()[3] for subject in told()) == [f"Job_id={each}_{task}" for task in (1, 2, 3)]


def test_requeue_cancel_dependency_and_time_limit_are_told(system: RunningSystem, mailbox: Mailbox) -> None:
    long = system.submit("#!/bin/bash\nsleep 600\n", time_limit="0:20", mail_type="ALL,TIME_LIMIT_50", mail_user="ada")
    system.wait_state(long, "RUNNING")
    failing = system.submit("#!/bin/bash\nexit 1\n")
    orphan = system.submit("#!/bin/bash\n:\n", dependency=f"afterok:{failing}", mail_type="INVALID_DEPEND")
    status, answer = system.call("POST", "/jobs/control", {"action": "requeue", "job_ids": [long]})
    assert status == 200, answer
    settled(system, long, "REQUEUE")
    wait_until(lambda: system.query(orphan)["state"] == "PENDING" and notifications(system, orphan), what="依赖的信")
    # 单用户：没有写 --mail-user 的，发给提交的人。
    assert settled(system, orphan, "INVALID_DEPEND")[0]["recipients"] == system.query(orphan)["detail"]["user"]
    settled(system, long, "TIME_LIMIT_50")
    assert any(subject.endswith("Reached 50% of time limit") for subject in mailbox.subjects(long))
    system.call("POST", f"/jobs/cancel/{long}")
    system.call("POST", f"/jobs/cancel/{orphan}")
    system.wait_state(long)
    assert "END" in {one["occasion"] for one in settled(system, long, "END")}


def test_a_refused_recipient_is_kept_with_the_reason(system: RunningSystem) -> None:
    job = system.submit("#!/bin/bash\n:\n", mail_type="END", mail_user=REFUSED)
    system.wait_state(job)
    (one,) = settled(system, job, "END")
    assert one["state"] == "DEAD"
    assert "550" in one["error"]
    shown = subprocess.run(
        [SCNS, "notifications", job], env=system.environment, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert "DEAD" in shown.stdout
    assert "550" in shown.stdout


def test_an_address_the_server_cannot_take_holds_back_nobody(system: RunningSystem, mailbox: Mailbox) -> None:
    """服务器没有 SMTPUTF8：那一封不再试，同一批里后面的照发。"""
    odd = system.submit("#!/bin/bash\n:\n", mail_type="BEGIN,END", mail_user="渊@site.example")
    plain = system.submit("#!/bin/bash\n:\n", mail_type="END", mail_user="ada")
    for job in (odd, plain):
        system.wait_state(job)
    assert {one["state"] for one in settled(system, odd, "BEGIN", "END")} == {"DEAD"}
    assert settled(system, plain, "END")[0]["state"] == "SENT"
    assert len(mailbox.subjects(plain)) == 1


@pytest.mark.parametrize(
    ("field", "value"), [("mail_type", "SOMETIMES"), ("mail_user", "a@b\r\nBcc: c@d"), ("mail_user", "a b")]
)
def test_bad_words_are_refused_by_name(system: RunningSystem, field: str, value: str) -> None:
    status, answer = system.call("POST", "/jobs/submit", {"job": {field: value}, "script": "#!/bin/bash\n"})
    assert status == 422, answer
    assert any(field in error["field"] for error in answer["errors"])


@pytest.mark.faults
def test_nothing_is_lost_or_doubled_when_server_and_process_die(system: RunningSystem, mailbox: Mailbox) -> None:
    """后台进程被杀，邮件服务器不在：回来之后每一封恰好一次。"""
    background = wait_until(lambda: system.background(), what="后台进程")
    os.kill(background, signal.SIGKILL)
    jobs = [system.submit("#!/bin/bash\n:\n", mail_type="END", mail_user="ada") for _ in range(5)]
    for job in jobs:
        system.wait_state(job)
    wait_until(lambda: system.background() not in (None, background), what="后台进程重启")
    for job in jobs:
        settled(system, job, "END")
    assert all(len(mailbox.subjects(job)) == 1 for job in jobs)


@pytest.mark.faults
def test_a_server_that_is_away_for_an_hour_is_tried_again(scratch: Path) -> None:
    port = free_port()
    settings = {"SCNS_SMTP_HOST": "127.0.0.1", "SCNS_SMTP_PORT": str(port), "SCNS_MAIL_FROM": "scns@cluster.example"}
    settings["SCNS_MAIL_HOURLY_LIMIT"] = "1"
    with start_system(scratch / "mail-away", "--nodes", "1", "--cpus", "4", environment=settings) as system:
        job = system.submit("#!/bin/bash\n:\n", mail_type="END", mail_user="ada@site.example")
        system.wait_state(job)
        waiting = wait_until(lambda: [one for one in notifications(system, job) if one["error"]], what="试过一次")
        assert waiting[0]["state"] == "QUEUED"
        assert waiting[0]["attempts"] == 1
        # 超过一小时的上限：不发，说明为什么。
        second = system.submit("#!/bin/bash\n:\n", mail_type="END", mail_user="ada@site.example")
        system.wait_state(second)
        assert "mail_hourly_limit" in settled(system, second, "END")[0]["error"]

        def later(minutes: int) -> None:
            """过了这么久，又到时候了。"""
            with psycopg.connect(database_url(system), autocommit=True) as connection:
                connection.execute(
                    "UPDATE notifications SET next_try_at = clock_timestamp(), "
                    "created_at = created_at - make_interval(mins => %s) WHERE state = 'QUEUED'",
                    [minutes],
                )

        # 一小时里试了又试：还等着，一次比一次隔得久。
        for attempts in (2, 3, 4):
            later(20)
            (one,) = wait_until(
                lambda count=attempts: [
                    each for each in notifications(system, job) if each["attempts"] == count and each["error"]
                ],
                what=f"第 {attempts} 次",
            )
            assert one["state"] == "QUEUED"
        box = Mailbox()
        controller = Controller(box, hostname="127.0.0.1", port=port)
        controller.start()
        try:
            later(0)
            (one,) = settled(system, job, "END")
        finally:
            controller.stop()
        assert one["state"] == "SENT"
        assert one["error"] is None
        assert len(box.subjects(job)) == 1
