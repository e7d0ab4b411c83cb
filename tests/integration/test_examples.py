"""examples/ 里的每一个都照抄运行，核对它的输出。"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from running_system import RunningSystem

EXAMPLES = Path(__file__).parents[2] / "examples"
# 文件 -> 输出里依次要有的。
SHOWN = {
    "hello.sh": ["你好，我是作业", "有 1 个 CPU"],
    "array.sh": ["285"],
    "dependency.sh": ["收尾", "COMPLETED", "FAILED", "CANCELLED"],
    "time_limit.sh": ["第 1 次，从第 0 步起", "第 2 次，从第 2 步起", "做完了"],
    "why.sh": ["还没有到要求的开始时刻", "node1"],
    "control.sh": ["收到 USR1"],
    "slurm.sh": ["任务 0", "任务 1", "COMPLETED"],
    "http.sh": ['"job_id"', "你好", "早已结束", '"job_ids"'],
    "hello.py": ["COMPLETED 0:0 你好"],
    "follow.py": ["第 1 步", "第 2 步", "第 3 步"],
    "many.py": ["[('0:0', 10), ('1:0', 10), ('2:0', 10)]"],
    "asynchronous.py": ["第 0 个 第 1 个 第 2 个 第 3 个"],
    "errors.py": ["写错了： invalid_field ['job.memory_per_node']", "没有： job_not_found", "连不上： Unreachable"],
    "executor.py": ["[1.0, 0.5, 0.25]", "ZeroDivisionError 算 0"],
    "pipeline.py": ["3", "5"],
}


def test_every_example_is_run() -> None:
    elsewhere = {"notebook.ipynb": "test_notebook.py", "what_if.sh": "test_cli_simulate.py",
                 "webhook_receiver.py": "test_webhooks.py", "job_submit_policy.py": "test_job_policy.py"}  # fmt: skip
    assert {path.name for path in EXAMPLES.iterdir()} == set(SHOWN) | set(elsewhere)
    for name, test in elsewhere.items():
        assert name in (Path(__file__).parent / test).read_text()


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_does_what_it_says(running_system: RunningSystem, tmp_path: Path, name: str) -> None:
    path = EXAMPLES / name
    assert os.access(path, os.X_OK)
    # 用户装好之后 PATH 里的 scns 与 python3。
    programs = tmp_path / "programs"
    programs.mkdir()
    # 不用链接：虚拟环境的 python 从别处的链接启动，找不到自己的 pyvenv.cfg。
    (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python3").chmod(0o755)
    (programs / "scns").write_text(f"#!{sys.executable}\nfrom scns_conductor.cli.main import main\n\nmain()\n")
    (programs / "scns").chmod(0o755)
    work = running_system.data_dir / f"example-{path.stem}{path.suffix}"
    work.mkdir()
    done = subprocess.run(
        [str(path)], cwd=work, env={**running_system.environment, "PATH": f"{programs}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    position = 0
    for word in SHOWN[name]:
        position = done.stdout.find(word, position)
        assert position >= 0, f"没有 {word!r}：\n{done.stdout}\n{done.stderr}"
