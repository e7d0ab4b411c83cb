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
from dataclasses import dataclass
from pathlib import Path

from slurm_compare_cases import ACCOUNTING_CASES, CASES, FILES, PRELUDE
from slurm_real import ACCOUNTING, CORE, RealSlurm, missing, wait

START_WAIT_S = 90.0
CASE_WAIT_S = 60.0


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
        try:
            done = subprocess.run(
                ["bash", "-c", PRELUDE + command],
                capture_output=True, cwd=self.work, env=self.environment, check=False, timeout=CASE_WAIT_S,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            code, out, error = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            code, out, error = 124, late.stdout or b"", (late.stderr or b"") + b"\n(no answer in time)\n"
        listed = self.work / ".ids"
        ids = set(listed.read_text().split()) if listed.exists() else set()
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
        text = raw.decode(errors="replace").replace(str(self.work), "<work>").replace(os.uname().nodename, "<host>")
        ids |= set(re.findall(r"(?:Submitted batch job|Job|job) (\d+)", text)) - {"0", "999999"}
        for job_id in sorted(ids, key=len, reverse=True):
            # 作业号前的空白随位数变，一并遮住。
            text = re.sub(rf" *(?<![\w.:]){job_id}(?=_|\b)", " <id>" if f" {job_id}" in text else "<id>", text)
            text = re.sub(rf"(?<==){job_id}\b|(?<=slurm-){job_id}(?=[._])", "<id>", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "<time>", text)
        text = re.sub(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} +\d+ [\d:]{8} \d{4}", "<date>", text)
        text = re.sub(r"(?<![\d:-])\d{1,2}:\d\d(?=\s)", "<t>", text)
        text = re.sub(r"\b00:00:0\d\b", "<s>", text)
        text = re.sub(r"\b00:0\d\.\d{3}\b", "<cpu>", text)
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
            [scns, "up", "--data-dir", str(folder / "data"), "--port", "0", "--ready-file", str(ready),
             "--nodes", "1", "--cpus", "4", "--memory", "8G"],
            stdout=log, stderr=log, env=base_environment(), start_new_session=True,
        )  # fmt: skip
    if not wait(lambda: ready.exists() or process.poll() is not None, START_WAIT_S) or not ready.exists():
        raise RuntimeError(f"scns up 没有起来，见 {folder / 'log'}")
    found = json.loads(ready.read_text())
    subprocess.run([scns, "slurm", "install", "--prefix", str(folder / "bin")], check=True, capture_output=True)
    environment = base_environment() | {
        "SCNS_URL": found["url"], "SCNS_TOKEN": found["token"], "SCNS_DATA_DIR": str(folder / "data"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    side = Side("SCNS", folder.parent / "work-scns", environment)
    # 与真的 Slurm 一样：缺省的账户是 root。
    for words in (
        ["scontrol", "create", "partitionname=short", "nodes=node1", "maxtime=10"],
        ["sacctmgr", "-i", "add", "user", "root", "account=root"],
    ):
        subprocess.run(words, env=environment, check=True, capture_output=True, timeout=30)
    return side, process


def report(rows: list[tuple[str, Answer, Answer]]) -> str:
    """Markdown：先是总数，再逐条列不同的。"""
    different = [row for row in rows if row[1] != row[2]]
    lines = [f"# 与 Slurm 的对比：{len(rows)} 条命令行，{len(different)} 条不同", ""]
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


def main() -> int:
    """起两边，逐条比，写报告，停两边。"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="只比包含这段文字的命令行")
    parser.add_argument("--port", type=int, default=16817, help="slurmctld 的端口（slurmd 用下一个）")
    options = parser.parse_args()
    absent = missing(CORE)
    if absent:
        print(f"没有装 Slurm：缺 {' '.join(absent)}。Debian：apt-get install slurm-client slurmctld slurmd munge")
        return 2
    cases = list(CASES)
    if missing(ACCOUNTING):
        print("没有 slurmdbd 或 MariaDB，不比 sacct、sreport：apt-get install slurmdbd mariadb-server", file=sys.stderr)
    else:
        cases += ACCOUNTING_CASES
    os.environ["PATH"] += ":/usr/sbin"
    folder = Path(tempfile.mkdtemp(prefix="slurm-compare-"))
    folder.chmod(0o755)
    slurm = RealSlurm(folder / "slurm", options.port)
    process: subprocess.Popen[bytes] | None = None
    try:
        slurm.start()
        real = Side("Slurm", folder / "work-slurm", slurm.environment(base_environment()))
        ours, process = start_ours(folder / "scns")
        for side in (real, ours):
            if not wait(side.ready, START_WAIT_S):
                print(f"{side.name} 没有起来，记录在 {folder}", file=sys.stderr)
                return 1
        rows = []
        for command in cases:
            if options.only and options.only not in command:
                continue
            print(command, file=sys.stderr)
            rows.append((command, real.ask(command), ours.ask(command)))
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
