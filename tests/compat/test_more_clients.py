"""未经改动的 R batchtools（Debian 的）、ClusterShell 的组、cluster-tools、slurm-pipeline，对着真系统。"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cluster_tools
import payloads
import pytest
from ClusterShell.NodeUtils import GroupResolverConfig
from slurm_commands import Slurm

pytest_plugins = ["slurm_fixtures"]
pytestmark = pytest.mark.compat

BATCHTOOLS = """
library(batchtools)
tmpl <- "#!/bin/sh
#SBATCH --job-name=<%= job.name %>
#SBATCH --output=<%= log.file %>
#SBATCH --error=<%= log.file %>
#SBATCH --time=<%= ceiling(resources$walltime / 60) %>
#SBATCH --ntasks=1
<%= if (array.jobs) sprintf('#SBATCH --array=1-%i', nrow(jobs)) else '' %>
Rscript -e 'batchtools::doJobCollection(\\"<%= uri %>\\")'
"
writeLines(tmpl, "slurm.tmpl")
reg <- makeRegistry("reg", seed = 1, make.default = TRUE)
reg$cluster.functions <- makeClusterFunctionsSlurm(
  "slurm.tmpl", array.jobs = TRUE, scheduler.latency = 0, fs.latency = 5)
batchMap(function(x) if (x == 3) stop("three") else if (x == 5) Sys.sleep(300) else x^2, 1:5)
ids <- findJobs()
ids$chunk <- 1
submitJobs(ids[1:2], resources = list(walltime = 300, chunks.as.arrayjobs = TRUE))
ids <- findNotSubmitted()
submitJobs(ids, resources = list(walltime = 300))
waitForJobs(1:4, sleep = 0.5, timeout = 120)
cat("RESULTS", unlist(reduceResultsList(findDone())), "\\n")
cat("FAILED", findErrors()$job.id, "\\n")
cat("ALIVE", nrow(findOnSystem()), "\\n")
invisible(killJobs(5))
cat("LEFT", nrow(findOnSystem()), "\\n")
"""


def test_batchtools_maps_reports_errors_and_kills(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "root")
    rscript = shutil.which("Rscript")
    if (
        rscript is None
        or subprocess.run([rscript, "-e", "library(batchtools)"], capture_output=True, check=False).returncode
    ):
        pytest.skip("没有 R 的 batchtools：apt-get install r-cran-batchtools")
    (slurm.work / "map.R").write_text(BATCHTOOLS)
    done = subprocess.run([rscript, "map.R"], cwd=slurm.work, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[:1].isupper() and " " in line)
    shown = {name: told[name].split() for name in ("RESULTS", "FAILED", "ALIVE", "LEFT")}
    assert shown == {"RESULTS": ["1", "4", "16"], "FAILED": ["3"], "ALIVE": ["1"], "LEFT": ["0"]}, done.stdout


def test_clustershell_finds_partitions_states_jobs_and_users(slurm: Slurm) -> None:
    # ClusterShell 自己带的例子，原样。
    example = Path(sys.prefix) / "etc/clustershell/groups.conf.d/slurm.conf.example"
    folder = slurm.work / "groups"
    folder.mkdir()
    shutil.copy(example, folder / "slurm.conf")
    config = slurm.work / "groups.conf"
    config.write_text(f"[Main]\ndefault: slurmpart\nconfdir: {folder}\n")
    node = slurm.out("sinfo", "-h", "-o", "%N").strip()
    job = slurm.out("sbatch", "--parsable", "-o", "/dev/null", script="#!/bin/sh\nsleep 100\n").strip()
    slurm.out("scontrol", "wait_job", job)
    try:
        groups = GroupResolverConfig(str(config))
        assert groups.grouplist() == ["main"]
        assert groups.group_nodes("main") == [node] == groups.all_nodes()
        assert groups.group_nodes(job, "slurmjob") == [node]
        assert groups.node_groups(node, "slurmjob") == [job]
        assert groups.grouplist("slurmuser") == ["root"]
        assert groups.group_nodes("root", "slurmuser") == [node]
        assert groups.grouplist("slurmstate") == ["mixed"]
        assert groups.group_nodes("mixed", "slurmstate") == [node]
    finally:
        slurm.run("scancel", job)


def test_cluster_tools_maps_over_a_job_array(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    # 它把 $USER 写进 shell 的命令。
    monkeypatch.setenv("USER", "root")
    with cluster_tools.get_executor(
        "slurm", cfut_dir=str(slurm.work / "cfut"), job_resources={"time": "5", "mem": "500M"}
    ) as executor:
        assert list(executor.map(payloads.double, [1, 2, 3])) == [2, 4, 6]
        future = executor.submit(payloads.fail)
        with pytest.raises(Exception, match="坏了"):
            future.result(timeout=120)


STEP = """#!/bin/sh
job=$(sbatch --parsable -o /dev/null $SP_DEPENDENCY_ARG --wrap "echo $1 >> {folder}/ran")
echo TASK: {task} $job
"""


def test_slurm_pipeline_chains_its_steps(slurm: Slurm) -> None:
    for name in ("one", "two"):
        script = slurm.work / f"{name}.sh"
        script.write_text(STEP.replace("$1", name).format(folder=slurm.work, task=name))
        script.chmod(0o755)
    steps = [{"name": "one", "script": "./one.sh"}, {"name": "two", "script": "./two.sh", "dependencies": ["one"]}]
    (slurm.work / "spec.json").write_text(json.dumps({"steps": steps}))
    folder = Path(sys.executable).parent
    status = slurm.out(sys.executable, str(folder / "slurm-pipeline.py"), "-s", "spec.json")
    (slurm.work / "status.json").write_text(status)
    tasks = {step["name"]: next(iter(step["tasks"].values()))[0] for step in json.loads(status)["steps"]}
    slurm.out("sbatch", "--wait", "-o", "/dev/null", "-d", f"afterok:{tasks['two']}", script="#!/bin/sh\n")
    assert (slurm.work / "ran").read_text() == "one\ntwo\n"
    shown = slurm.out(sys.executable, str(folder / "slurm-pipeline-status.py"), "-s", "status.json")
    assert "Number of jobs finished: 2" in shown.replace("  ", " ") or shown.count("COMPLETED") >= 2, shown
