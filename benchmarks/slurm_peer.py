"""一同比较的 Slurm：Debian 的包，munged、slurmctld、一个声明 SLOTS 个 CPU 的 slurmd，只在回环地址与临时目录里。"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import noop_script
from system import SLOTS, Failed
from workload import NOOP, wait_mark

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from slurm_real import CORE, RealSlurm, missing

PORT = 16837
START_WAIT_S = 90.0
RUN_WAIT_S = 180.0
# 上限放宽，没有写内存的作业不占满整个节点；不记账。
EXTRA = """MaxArraySize=100001
MaxJobCount=200000
MinJobAge=2
DefMemPerCPU=100
"""
# 对它有利的设置：来了就排（缺省的要等一会儿，好把一批提交一起排），每次看完整个队列。
TUNED = (
    "SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,default_queue_depth=10000,"
    "bf_interval=1\n"
)


class Slurm:
    """起好的一套；close 停下。tuned 为假是缺省的调度参数。"""

    @staticmethod
    def missing() -> str | None:
        """没有装、不是 root 时说缺什么。"""
        absent = missing(CORE)
        if absent:
            return f"没有装：缺 {' '.join(absent)}（apt-get install slurm-client slurmctld slurmd munge）"
        return None if os.geteuid() == 0 else "要 root 才能起 munged 与 slurmd"

    def __init__(self, *, tuned: bool = True) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="scns-bench-slurm-"))
        self._folder.chmod(0o755)
        extra, port = (EXTRA + TUNED, PORT) if tuned else (EXTRA, PORT + 100)
        self._real = RealSlurm(self._folder / "slurm", port, cpus=SLOTS, memory_mb=65536, accounting=False, extra=extra)
        try:
            self._real.start()
            base = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
            self._environment = self._real.environment(base) | {"LC_ALL": "C"}
            self._script = str(noop_script(self._folder))
            self._until(lambda: "idle" in self._ask("sinfo", "-h", "-o", "%T"), START_WAIT_S, "节点空闲")
        except BaseException:
            self.close()
            raise

    def _ask(self, *words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, env=self._environment, timeout=60, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(words[:2])}：{done.stderr.strip()}")
        return done.stdout

    def _until(self, condition, wait_s: float, what: str, poll_s: float = 0.1) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + wait_s
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"Slurm {wait_s:g} 秒里没有等到：{what}")
            time.sleep(poll_s)

    def _empty(self) -> bool:
        return not self._ask("squeue", "-h", "-t", "PD,CF,R,CG", "-o", "%t").strip()

    def _drained(self, jobs: int, began: float) -> float:
        self._until(self._empty, RUN_WAIT_S, f"{jobs} 个跑完")
        return jobs / (time.perf_counter() - began)

    def array_rate(self, jobs: int) -> float:
        """(a) 一个数组，每秒跑完几个任务。"""
        began = time.perf_counter()
        self._ask("sbatch", "-Q", "-o", "/dev/null", "-a", f"0-{jobs - 1}", self._script)
        return self._drained(jobs, began)

    def separate_rate(self, jobs: int, clients: int) -> float:
        """(b) 分别提交，clients 个同时的 sbatch，各有自己的脚本与输出文件，每秒跑完几个。"""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        for index in range(jobs):
            (folder / f"{index}.sh").write_text(f"{NOOP}# {index}\n")
        began = time.perf_counter()
        subprocess.run(
            f"seq 0 {jobs - 1} | xargs -P{clients} -I{{}} sbatch -Q -o {folder}/{{}}.out {folder}/{{}}.sh",
            shell=True, check=True, env=self._environment, stdout=subprocess.DEVNULL, timeout=RUN_WAIT_S,
        )  # fmt: skip
        return self._drained(jobs, began)

    def latencies_ms(self, times: int) -> list[float]:
        """(c) 提交到脚本第一行，毫秒，依次。"""
        found = []
        for index in range(times):
            mark, script = self._folder / f"mark-{index}", self._folder / f"mark-{index}.sh"
            script.write_text(f"{NOOP}: > {mark}\n")
            began = time.perf_counter()
            self._ask("sbatch", "-Q", "-o", "/dev/null", str(script))
            found.append(wait_mark(mark, began, "Slurm"))
            self._until(self._empty, RUN_WAIT_S, "空闲")
        return found

    def submit_rate(self, jobs: int, clients: int) -> float:
        """(d) 每秒 sbatch 几个（保留着不跑）；量完取消。"""
        began = time.perf_counter()
        subprocess.run(
            f"seq {jobs} | xargs -P{clients} -I{{}} sbatch -Q -H -o /dev/null {self._script}",
            shell=True, check=True, env=self._environment, stdout=subprocess.DEVNULL, timeout=RUN_WAIT_S,
        )  # fmt: skip
        rate = jobs / (time.perf_counter() - began)
        self._ask("scancel", "--me")
        self._until(self._empty, RUN_WAIT_S, "取消完")
        return rate

    def close(self) -> None:
        """停下各个进程，删掉它们的目录。"""
        self._real.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
