"""scrontab：用户的 crontab，到时提交作业（scrontab(1)）。"""

import os
import pwd
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scns_conductor.client import Problem
from scns_conductor.core.batch_script import UnmatchedQuote, directive_tokens
from scns_conductor.core.cron import schedule_and_command
from scns_conductor.slurm.error_words import NUMBERS, SLURM_ERROR
from scns_conductor.slurm.parse.options import UsageError, flags, parse, values
from scns_conductor.slurm.session import Fatal, connect, current_umask, in_english, parse_or_exit, slurm_error
from scns_conductor.slurm.submit.batch_options import OPTIONS as BATCH_OPTIONS
from scns_conductor.slurm.submit.batch_options import job_fields, merged

OPTIONS = [*flags("-e", "-l", "-r", "-v --verbose", "-V --version", "-h --help", "--usage"), *values("-u")]
_USAGE = "Usage: scrontab [-u user] [-e | -l | -r | file]"
_MARK = "#SCRON"
_VARIABLE = re.compile(r"""\s*["']?([A-Za-z_]\w*)["']?\s*=\s*(.*?)\s*""")
_EMPTY = (
    "# Edit this file to submit recurring jobs to be run by Slurm.\n#\n"
    "# Each entry is: minute hour day-of-month month day-of-week command\n"
    "# Options for the next entry go on lines like:\n#     #SCRON --time=10\n"
)
_BAD = "#BAD: "
_ZONES = "/usr/share/zoneinfo/"


@dataclass(slots=True)
class BadLine(Exception):
    """第 first 到 last 行（从 0 数起）不行。"""

    first: int
    last: int
    why: str


@dataclass(slots=True)
class _Reader:
    """一行行读 crontab。"""

    home: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    options: list[tuple[int, str]] = field(default_factory=list)

    def line(self, number: int, line: str) -> None:
        """第 number 行；不行抛 BadLine。"""
        text = line.strip()
        if line.lstrip().startswith(_MARK):
            self.options.append((number, line.strip()))
        elif not text or text.startswith("#"):
            return
        elif (found := _VARIABLE.fullmatch(line)) is not None:
            self.variables[found[1]] = found[2].strip("\"'")
        else:
            self._entry(number, line)
            self.options = []

    def _entry(self, number: int, line: str) -> None:
        first = self.options[0][0] if self.options else number
        try:
            schedule, command = schedule_and_command(line)
        except ValueError:
            raise BadLine(first, number, f"not a valid crontab entry: {line.strip()}") from None
        try:
            marked = "\n".join(each for _, each in self.options)
            found = parse(directive_tokens(marked, (_MARK,)), BATCH_OPTIONS)
            if found.arguments:
                raise UsageError(f"Invalid directive found: {found.arguments[0]}")
            job = job_fields(merged(found.pairs, [], [("export", "NONE")]), os.environ)
        except Fatal as error:
            raise BadLine(first, number, "; ".join(error.lines)) from error
        except (UsageError, UnmatchedQuote, ValueError) as error:
            raise BadLine(first, number, str(error)) from error
        for name, value in self.variables.items():
            command = re.sub(rf"\$({name}\b|{{{name}}})", lambda _, value=value: value, command)  # type: ignore[misc]
        job.setdefault("name", command.split()[0][:255])
        job["current_working_directory"] = os.path.join(self.home, job.get("current_working_directory") or "")
        job |= {"submit_host": os.uname().nodename, "umask": current_umask()}
        script = f"#!/bin/sh\n# This job was submitted through scrontab\n{marked}\n"
        script += f"# crontab time request was: '{schedule}'\n{command}\n"
        entry = {"schedule": schedule, "first_line": first, "last_line": number, "job": job, "script": script}
        self.entries.append(entry)


def read_entries(text: str, home: str) -> list[dict[str, Any]]:
    """全文 -> 各项（API 的 entries）；有一行不行抛 BadLine。"""
    reader = _Reader(home)
    for number, line in enumerate(text.split("\n")):
        reader.line(number, line)
    return reader.entries


def zone_name() -> str:
    """本机的时区的名字：TZ，/etc/timezone，/etc/localtime 指着的；都没有是 UTC。"""
    zone = os.environ.get("TZ", "").removeprefix(":")
    if zone and not zone.startswith("/"):
        return zone
    if zone:
        return zone.rpartition(_ZONES)[2]
    target = os.path.realpath("/etc/localtime")
    if _ZONES in target:
        return target.rpartition(_ZONES)[2]
    try:
        return Path("/etc/timezone").read_text().strip() or "UTC"
    except (OSError, UnicodeDecodeError):
        return "UTC"


def main(words: list[str]) -> int:
    """看、改、删、换 crontab。"""
    parsed = parse_or_exit("scrontab", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    chosen = [key for key in ("e", "l", "r") if key in parsed]
    files = parsed.arguments
    if len(files) > 1 or len(chosen) > 1 or (chosen and files):
        raise Fatal(_USAGE, prefix=None)
    user = _user(parsed.last("u"))
    if chosen == ["l"]:
        return _list(user)
    if chosen == ["r"]:
        return _remove(user)
    if chosen == ["e"] and not sys.stdin.isatty():
        raise Fatal("Standard input is not a TTY", prefix="fatal: ")
    if chosen or (not files and sys.stdin.isatty()):
        return _edit(user)
    return _install(user, _read(files[0] if files else "-"))


def _user(name: str | None) -> pwd.struct_passwd:
    try:
        if name is None:
            return pwd.getpwuid(os.getuid())
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):
        raise Fatal(f"Could not find user {name or os.getuid()}", prefix="fatal: ") from None


def _asked(user: pwd.struct_passwd) -> str | None:
    """API 的 user：自己的不写（令牌说了算）。"""
    return None if user.pw_uid == os.getuid() else user.pw_name


def _stored(user: pwd.struct_passwd) -> str | None:
    with connect() as client:
        try:
            return str(client.crontab(_asked(user))["text"])
        except Problem as problem:
            if problem.code == "crontab_not_found":
                return None
            raise


def _list(user: pwd.struct_passwd) -> int:
    text = _stored(user)
    if text is None:
        print(f"no crontab for {user.pw_name}")
        return 1
    sys.stdout.write(text)
    return 0


def _remove(user: pwd.struct_passwd) -> int:
    with connect() as client:
        try:
            client.delete_crontab(_asked(user))
        except Problem as problem:
            if problem.code != "crontab_not_found":
                raise
            print(f"no crontab for {user.pw_name}")
            return 1
    return 0


def _read(path: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError:
        raise Fatal(f"failed to open {path}", prefix="fatal: ") from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Fatal(f"{path} is not valid UTF-8 text", prefix="fatal: ") from None


def _install(user: pwd.struct_passwd, text: str) -> int:
    try:
        _send(user, text)
    except BadLine as bad:
        print("There are errors in your crontab.")
        raise Fatal(f"line {bad.last + 1}: {bad.why}") from None
    except _Refused as refused:
        print(refused)
        return 1
    return 0


class _Refused(Exception):
    """API 不收；文字同 scrontab。"""

    def __init__(self, lines: str, problem: Problem) -> None:
        words = slurm_error(problem)
        super().__init__(
            f"There was an issue with the job submission on lines {lines}\n"
            f"The error code return was: {words if words in NUMBERS else SLURM_ERROR}\n"
            f"The error message was: {in_english(problem)}"
        )
        self.lines = lines


def _send(user: pwd.struct_passwd, text: str) -> None:
    entries = read_entries(text, user.pw_dir)
    with connect() as client:
        try:
            client.replace_crontab(text, entries, zone_name(), _asked(user))
        except Problem as problem:
            found = re.match(
                r"(?:body\.)?entries[.\[](\d+)", problem.errors[0].get("field", "") if problem.errors else ""
            )
            if found is None:
                raise
            entry = entries[int(found[1])]
            raise _Refused(f"{entry['first_line']}-{entry['last_line']}", problem) from problem


def _edit(user: pwd.struct_passwd) -> int:
    """编辑到没有错误、或不再试为止。"""
    text = _stored(user)
    text = _EMPTY if text is None else text
    while True:
        text = _edited(text)
        try:
            _send(user, text)
            return 0
        except BadLine as bad:
            print("There are errors in your crontab.")
            print(f"line {bad.last + 1}: {bad.why}")
            first, last = bad.last, bad.last
        except _Refused as refused:
            print(refused)
            first, last = map(int, refused.lines.split("-"))
        lines = text.split("\n")
        lines[first : last + 1] = [_BAD + line for line in lines[first : last + 1]]
        text = "\n".join(lines)
        print("The failed line(s) is commented out with #BAD:")
        if not _agreed("Do you want to retry the edit? (y/n) "):
            return 0


def _agreed(question: str) -> bool:
    while True:
        try:
            answer = input(question).strip().lower()[:1]
        except EOFError:
            return False
        if answer in ("y", "n"):
            return answer == "y"


def _edited(text: str) -> str:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.NamedTemporaryFile("w", prefix="scrontab-", delete=False) as stream:
        stream.write(text)
    try:
        # 编辑器可以带参数（code --wait）：由 shell 拆开。
        done = subprocess.run(["/bin/sh", "-c", f'{editor} "$1"', editor, stream.name], check=False)
        if done.returncode:
            raise Fatal("editor returned non-zero exit code", prefix="fatal: ")
        return _read(stream.name)
    finally:
        os.unlink(stream.name)
