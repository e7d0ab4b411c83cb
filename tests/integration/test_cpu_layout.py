"""CPU 的布局，对着真的系统：声明成一个核两个线程的节点，绑的是真的 CPU。"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_links import Commands

from running_system import RunningSystem, start_system, wait_until

USABLE = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(USABLE) < 2, reason="要两个真的 CPU")
ALLOWED = "grep Cpus_allowed_list /proc/self/status | cut -f2"


@pytest.fixture(scope="module")
def layout_system(scratch: Path) -> Iterator[RunningSystem]:
    environment = {"SCNS_NODE_CPU_TOPOLOGY": "1:1:2", "SCNS_NODE_FEATURES": "fast"}
    with start_system(scratch / "layout", "--memory", "8G", "--nodes", "1", environment=environment) as system:
        yield system


@pytest.fixture
def slurm(layout_system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(layout_system, tmp_path)


def batch(slurm: Commands, text: str, *words: str) -> str:
    done = slurm.run("sbatch", "--wait", "-o", "out", *words, text=f"#!/bin/bash\n{text}\n")
    assert done.returncode == 0, done.stderr + (slurm.work / "out").read_text()
    return (slurm.work / "out").read_text()


def test_the_layout_is_shown(slurm: Commands) -> None:
    assert slurm.run("sinfo", "-h", "-o", "%X %Y %Z %z %c").stdout == "1 1 2 1:1:2 2\n"
    shown = slurm.run("scontrol", "show", "node", "node1").stdout
    assert "CoresPerSocket=1" in shown
    assert "Sockets=1" in shown
    assert "ThreadsPerCore=2" in shown


def test_one_thread_of_a_core_is_used_and_both_are_taken(slurm: Commands) -> None:
    lines = batch(slurm, f"{ALLOWED}\nsrun sh -c '{ALLOWED}'\necho $SLURM_CPUS_ON_NODE", "-n1", "--hint=nomultithread")
    both, one, count = lines.split()
    assert both in (f"{USABLE[0]}-{USABLE[1]}", f"{USABLE[0]},{USABLE[1]}")
    assert one == str(USABLE[0])
    assert count == "2"


def test_specialized_threads_are_kept_from_the_job(slurm: Commands) -> None:
    lines = batch(
        slurm, "nproc; echo $SLURM_CPUS_ON_NODE; srun sh -c 'nproc; echo $SLURM_CPUS_ON_NODE'", "--thread-spec=1"
    )
    assert lines.split() == ["1", "1", "1", "1"]
    refused = slurm.run("sbatch", "-S", "1", text="#!/bin/sh\n")
    assert refused.returncode == 1


def test_what_no_node_has_is_refused(slurm: Commands) -> None:
    for words in (
        ("--sockets-per-node=2",),
        ("-B", "1:2"),
        ("--threads-per-core=4",),
        ("--ntasks-per-core=1", "-n3", "-N1"),
    ):
        refused = slurm.run("sbatch", *words, text="#!/bin/sh\n")
        assert refused.returncode == 1, words
        assert refused.stderr.startswith("sbatch: error:"), words


def test_preferred_features(slurm: Commands) -> None:
    job = slurm.submit("-H", "--prefer=fast", text="#!/bin/sh\n")
    assert "Prefer=fast" in slurm.run("scontrol", "show", "job", job).stdout
    assert slurm.run("squeue", "-h", "-j", job, "-O", "prefer:10").stdout.strip() == "fast"
    slurm.run("scontrol", "release", job)
    wait_until(lambda: "COMPLETED" in slurm.run("sacct", "-nXP", "-j", job, "-o", "state").stdout, 60, "做完了")


def test_memory_of_a_task_is_bound(slurm: Commands) -> None:
    policy = "grep -c bind:0 /proc/self/numa_maps > /dev/null && echo bound || echo free"
    lines = batch(
        slurm, f"srun sh -c '{policy}'; srun --mem-bind=local sh -c '{policy}'; srun --mem-bind=map_mem:1000 true"
    )
    assert lines.split("\n")[:2] == ["free", "bound"]
    assert "mem-bind [1000]" in lines
    wrong = slurm.run("srun", "--mem-bind=nope", "true")
    assert wrong.returncode != 0
    assert 'unrecognized --mem-bind argument "nope"' in wrong.stderr
