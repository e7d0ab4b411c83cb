"""脚本里的 #PBS、#BSUB 行换成 sbatch 的选项。"""

import pytest

from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.submit.foreign_headers import foreign_options


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("#PBS -N a -q gpu", [("job_name", "a"), ("partition", "gpu")]),
        ("#PBS -l walltime=1:00:00,nodes=2:ppn=4", [("time", "1:00:00"), ("nodes", "2"), ("ntasks", "8")]),
        ("#PBS -l nodes=n1+n2", [("nodelist", "n1,n2")]),
        ("#PBS -l mem=4gb", [("mem", "4g")]),
        (
            "#PBS -l select=2:ncpus=4:mpiprocs=2",
            [("nodes", "2"), ("ntasks_per_node", "2"), ("mincpus", "4"), ("cpus_per_task", "2")],
        ),
        ("#PBS -m ae -M a@b", [("mail_type", "FAIL,END"), ("mail_user", "a@b")]),
        ("#PBS -W depend=afterok:3 -j oe -V", [("dependency", "afterok:3")]),
        ("#PBS -t 1-3 -o none", [("array", "1-3"), ("output", "/dev/null")]),
        ("#BSUB -J a -n 2,4 -W 10 -x", [("job_name", "a"), ("ntasks", "4"), ("time", "10"), ("exclusive", "")]),
        ("#BSUB -cwd /tmp -m 'n1 n2'", [("chdir", "/tmp"), ("nodelist", "n1,n2")]),
    ],
)
def test_a_foreign_line_becomes_options_of_sbatch(line: str, options: list[tuple[str, str]]) -> None:
    assert foreign_options(f"#!/bin/bash\n{line}\ntrue\n#PBS -q late\n") == options


def test_lsf_lines_win_over_pbs_lines() -> None:
    assert foreign_options("#!/bin/bash\n#PBS -N p\n#BSUB -J b\n") == [("job_name", "b")]


@pytest.mark.parametrize("line", ["#PBS -Y x", "#PBS word", "#BSUB -R 'rusage[mem=4]'", "#PBS -m xyz"])
def test_a_foreign_option_that_is_not_known_is_refused(line: str) -> None:
    with pytest.raises(Fatal):
        foreign_options(f"#!/bin/bash\n{line}\n")
