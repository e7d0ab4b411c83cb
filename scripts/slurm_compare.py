#!/usr/bin/env python3
"""把同一批命令行交给真的 Slurm 与本系统的 Slurm 命令，遮住作业号、时间、路径之后比较，差别写成 Markdown。

只用标准库。需要 Debian 的 slurm-client、slurmctld、slurmd、munge（比 sacct、sreport 还要 slurmdbd、mariadb-server）；
用 root 运行，两边都只用回环地址与临时目录。
例：.venv/bin/python scripts/slurm_compare.py > compare.md
退出码 0：比完了（有没有差别都是）；1：哪一边没有起来；2：没有装 Slurm。
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

from slurm_compare_cases import ACCOUNTING_CASES, CASES, FILES, PRELUDE
from slurm_compare_manual import ACCOUNTING_CASES as MANUAL_ACCOUNTING_CASES
from slurm_compare_manual import CASES as MANUAL_CASES
from slurm_compare_reasons import reason_of
from slurm_compare_today import ACCOUNTING_CASES as TODAY_ACCOUNTING_CASES
from slurm_compare_today import CASES as TODAY_CASES
from slurm_real import ACCOUNTING, CORE, RealSlurm, missing, wait

START_WAIT_S = 90.0
CASE_WAIT_S = 60.0
# 两边的作业号都从这里之后起：太小的号与输出里别的数分不清。
FIRST_JOB = 1000
MOST_OUTPUT_KB = 1024
# slurm_real.py 里的集群名。
CLUSTER = "compare"
# 异构作业只由回填启动，缺省三十秒一次。
BACKFILL = "SchedulerType=sched/backfill\nSchedulerParameters=bf_interval=1\n"
MOST_SHOWN = 110
# 命令行里常见的开头 -> 表里的写法。
SHORT = {
    "sub -H -J held -t 5 --mem=100 long.sh; ": "HELD; ",
    "sub -J running -t 5 --mem=100 -o /dev/null long.sh; state RUNNING; ": "RUNNING; ",
    "J=$(sacct -nXP -S now-2hours -E now --name=done -o jobid | tail -1); echo $J >> .ids; ": "DONE; ",
    "for _ in $(seq 100); do sacct -nXP -j $J -o end,jobname 2>/dev/null | grep 20 | grep -qv allocation && break; "
    "sleep 0.1; done; ": "ENDED; ",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """一条命令的回答，已经遮过。"""

    code: int
    out: str
    error: str


@dataclass(slots=True)
class Side:
    """一边：怎么找到命令，在哪里执行。"""

    name: str
    work: Path
    environment: dict[str, str]

    def ready(self) -> bool:
        """节点空闲了没有。"""
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, env=self.environment, check=False, timeout=30
        )
        return done.returncode == 0 and "idle" in done.stdout

    def ask(self, command: str) -> Answer:
        """在干净的工作目录里执行；之后取消还在的作业，下一条从空的系统开始。"""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        for name, content in FILES.items():
            (self.work / name).write_bytes(content)
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            # 有的命令会不停地打印（scancel -i 读不到答复时）：写进文件，并限制大小；不答的连同它的子进程一起结束。
            process = subprocess.Popen(
                ["bash", "-c", f"ulimit -f {MOST_OUTPUT_KB}\n{PRELUDE}{command}"],
                stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, cwd=self.work, env=self.environment,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(CASE_WAIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = 124
                stderr.write(b"\n(no answer in time)\n")
            out, error = (file.seek(0) or file.read() for file in (stdout, stderr))
        listed = self.work / ".ids"
        ids = set(listed.read_text().split()) if listed.exists() else set()
        if self._busy():
            subprocess.run(["scancel", "--me"], capture_output=True, env=self.environment, check=False, timeout=30)
            wait(lambda: not self._busy(), 30.0)
        return Answer(code, self._mask(out, ids), self._mask(error, ids))

    def _busy(self) -> str:
        done = subprocess.run(
            ["squeue", "-h", "-t", "PD,R,S,CG"],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
            timeout=30,
        )
        return done.stdout

    def _mask(self, raw: bytes, ids: set[str]) -> str:
        text = raw.decode(errors="replace").replace(str(self.work), "<work>")
        text = re.sub(rf"\b{re.escape(os.uname().nodename)}\b", "<host>", text)
        ids |= set(re.findall(r"(?:Submitted batch job|Job|job|job allocation) (\d+)", text)) - {"0", "999999"}
        for job_id in sorted(ids, key=len, reverse=True):
            # 作业号前的空白随位数变，一并遮住。
            text = re.sub(rf" *(?<![\w.:]){job_id}(?=_|\b)", " <id>" if f" {job_id}" in text else "<id>", text)
            text = re.sub(rf"(?<==){job_id}\b|(?<=slurm-){job_id}(?=[._])", "<id>", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "<time>", text)
        text = re.sub(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} +\d+ [\d:]{8} \d{4}", "<date>", text)
        text = re.sub(r"(?<![\d:-])\d{1,2}:\d\d(?=\s)", "<t>", text)
        text = re.sub(r"\b00:00:0\d\b", "<s>", text)
        text = re.sub(r"\b00:0\d\.\d{3}\b", "<cpu>", text)
        # 缺省的优先级随作业号递减。
        text = re.sub(r"\b429490\d{4}\b", "<priority>", text)
        text = re.sub(r"(?m)(?:\(|: {1,4}| = )\d{10}\b", "<epoch>", text)
        return text


def base_environment() -> dict[str, str]:
    """两边共同的环境：没有别的 Slurm 或本系统的变量。"""
    strip = ("SLURM", "SBATCH", "SQUEUE", "SINFO", "SCNS", "SRUN")
    return {name: value for name, value in os.environ.items() if not name.startswith(strip)} | {"LC_ALL": "C"}


def start_ours(folder: Path) -> tuple[Side, "subprocess.Popen[bytes]"]:
    """scns up 与 scns slurm install。"""
    folder.mkdir(parents=True)
    scns = str(Path(sys.executable).with_name("scns"))
    ready = folder / "ready.json"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [scns, "up", "--no-web", "--data-dir", str(folder / "data"), "--port", "0", "--ready-file", str(ready),
             "--nodes", "1", "--cpus", "4", "--memory", "8G", "--gpus", "2"],
            stdout=log, stderr=log, env=base_environment() | {"SCNS_CLUSTER_NAME": CLUSTER}, start_new_session=True,
        )  # fmt: skip
    if not wait(lambda: ready.exists() or process.poll() is not None, START_WAIT_S) or not ready.exists():
        raise RuntimeError(f"scns up 没有起来，见 {folder / 'log'}")
    found = json.loads(ready.read_text())
    subprocess.run([scns, "slurm", "install", "--prefix", str(folder / "bin")], check=True, capture_output=True)
    environment = base_environment() | {
        # 与 Debian 的 22.05.8 比。
        "SCNS_SLURM_VERSION": "22.05",
        "SCNS_URL": found["url"], "SCNS_TOKEN": found["token"], "SCNS_DATA_DIR": str(folder / "data"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    side = Side("SCNS", folder.parent / "work-ours", environment)
    skip_jobs(found["url"], found["token"])
    # 与真的 Slurm 一样：缺省的账户是 root。
    for words in (
        ["scontrol", "create", "partitionname=short", "nodes=node1", "maxtime=10"],
        ["sacctmgr", "-i", "add", "user", "root", "account=root"],
    ):
        subprocess.run(words, env=environment, check=True, capture_output=True, timeout=30)
    return side, process


def skip_jobs(url: str, token: str) -> None:
    """用掉前 FIRST_JOB 个作业号：提交，取消。"""
    job = {"job": {"name": "skipped", "current_working_directory": "/tmp", "hold": True}, "script": "#!/bin/sh\n"}
    for path, body in (
        ("/jobs/submit/batch", {"jobs": [job] * FIRST_JOB}),
        ("/jobs/control", {"action": "cancel", "conditions": {"name": "skipped"}}),
    ):
        request = urllib.request.Request(url + path, json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=60).close()


def _shown(command: str) -> str:
    """表里的一条命令行：常见的开头写成一个词，太长的截断；表格的一格里不能有竖线。"""
    for start, word in SHORT.items():
        command = command.replace(start, word)
    text = command if len(command) <= MOST_SHOWN else command[:MOST_SHOWN] + "…"
    return f"`` {text.replace('|', chr(92) + '|')} ``"


def summary(rows: list[tuple[str, Answer, Answer]]) -> list[str]:
    """docs/slurm-compat.md 里的表：每个理由与它名下的命令行；没有写理由的在最后。"""
    different = [row[0] for row in rows if row[1] != row[2]]
    by_reason: dict[str, list[str]] = {}
    for command in different:
        by_reason.setdefault(reason_of(command) or "（没有写理由）", []).append(command)
    lines = [f"{len(rows)} 条命令行，{len(different)} 条不同：", "", "| 理由 | 条数 | 命令行 |", "|---|---|---|"]
    for reason, commands in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        shown = " · ".join(map(_shown, commands))
        lines.append(f"| {reason} | {len(commands)} | {shown} |")
    return lines


def report(rows: list[tuple[str, Answer, Answer]]) -> str:
    """Markdown：先是总数与理由的表，再逐条列不同的。"""
    different = [row for row in rows if row[1] != row[2]]
    lines = ["# 与 Slurm 的对比", "", *summary(rows), ""]
    for command, real, ours in different:
        parts = [
            name
            for name, key in (("退出码", "code"), ("标准输出", "out"), ("标准错误", "error"))
            if getattr(real, key) != getattr(ours, key)
        ]
        lines += [f"## `{command}`", "", f"不同：{'、'.join(parts)}", ""]
        for side, answer in (("Slurm", real), ("SCNS", ours)):
            lines += [f"{side}：退出码 {answer.code}", "```", (answer.out + answer.error).rstrip("\n"), "```", ""]
    return "\n".join(lines)


def saved_rows(file: Path) -> list[tuple[str, Answer, Answer]]:
    """--save 写下的；一条比过几次的是最近的一次。"""
    lines = file.read_text().splitlines() if file.exists() else []
    found = {command: (Answer(*real), Answer(*ours)) for command, real, ours in map(json.loads, lines)}
    return [(command, *answers) for command, answers in found.items()]


def chosen(free: list[str], chains: list[list[str]], part: str | None, only: str | None) -> list[str]:
    """要比的命令行：--part 的那一份里与 --only 相符的；chains 各是一条接着一条的，不拆开。"""
    which, _, parts = (part or "1/1").partition("/")
    mine = free[int(which) - 1 :: int(parts)]
    mine += [each for chain in chains[int(which) - 1 :: int(parts)] for each in chain]
    return [each for each in mine if not only or re.search(only, each)]


def main() -> int:
    """起两边，逐条比，写报告，停两边。"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="只比与这个正则表达式相符的命令行")
    parser.add_argument("--today", action="store_true", help="只比第三部分（slurm_compare_today.py）")
    parser.add_argument("--known", action="store_true", help="只比前两部分里写过理由的（以前不同的）")
    parser.add_argument("--part", help="只比其中一份，如 2/3：几份可以同时比（--port 各不相同）")
    parser.add_argument("--port", type=int, default=16817, help="slurmctld 的端口（也用之后的三个）")
    parser.add_argument(
        "--save", type=Path, help="每比完一条就把两边的回答写进这个文件（JSON，一行一条）；里面有了的不再比"
    )
    parser.add_argument("--load", type=Path, nargs="+", help="不比，只用 --save 写下的回答写报告（理由改了之后）")
    options = parser.parse_args()
    if options.load:
        print(report([row for file in options.load for row in saved_rows(file)]))
        return 0
    absent = missing(CORE)
    if absent:
        print(f"没有装 Slurm：缺 {' '.join(absent)}。Debian：apt-get install slurm-client slurmctld slurmd munge")
        return 2
    today, others = TODAY_CASES, CASES + MANUAL_CASES
    # 记账的一条接着一条（前一条加的账户，后一条改），一份里是整个的。
    chains = [TODAY_ACCOUNTING_CASES, ACCOUNTING_CASES + MANUAL_ACCOUNTING_CASES]
    if missing(ACCOUNTING):
        print("没有 slurmdbd 或 MariaDB，不比 sacct、sreport：apt-get install slurmdbd mariadb-server", file=sys.stderr)
        chains = []
    if options.known:
        others = [command for command in others if reason_of(command)]
    free = today if options.today else others if options.known else today + others
    chains = chains[:1] if options.today else chains[1:] if options.known else chains
    os.environ["PATH"] += ":/usr/sbin"
    folder = Path(tempfile.mkdtemp(prefix="slurm-compare-"))
    folder.chmod(0o755)
    # 被 SIGTERM 也要把两边停掉。
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    slurm = RealSlurm(folder / "slurm", options.port, gpus=2, extra=f"FirstJobId={FIRST_JOB + 1}\n{BACKFILL}")
    process: subprocess.Popen[bytes] | None = None
    try:
        slurm.start()
        real = Side("Slurm", folder / "work-real", slurm.environment(base_environment()))
        ours, process = start_ours(folder / "scns")
        for side in (real, ours):
            if not wait(side.ready, START_WAIT_S):
                print(f"{side.name} 没有起来，记录在 {folder}", file=sys.stderr)
                return 1
        rows = saved_rows(options.save) if options.save else []
        done = {row[0] for row in rows}
        with ThreadPoolExecutor(2) as both:
            for command in chosen(free, chains, options.part, options.only):
                if command in done:
                    continue
                print(command, file=sys.stderr)
                theirs, answer = both.map(Side.ask, (real, ours), (command, command))
                rows.append((command, theirs, answer))
                if options.save:
                    with options.save.open("a") as file:
                        file.write(json.dumps([command, astuple(theirs), astuple(answer)]) + "\n")
        print(report(rows))
        return 0
    finally:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(90)
        slurm.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
