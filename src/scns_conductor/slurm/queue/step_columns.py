"""squeue -s 的列（squeue(1) 里作业步的 % 字母）。"""

from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.columns import Field, Known
from scns_conductor.slurm.table.times import elapsed_s, instant, short_duration

STEP_FORMAT = "%.15i %.8j %.9P %.8u %.9M %N"
STEP_LETTERS: Known = {
    "A": Field("TASKS", lambda step: str(step["tasks"])),
    "b": Field("TRES_PER_NODE", lambda _step: "N/A"),
    "i": Field("STEPID", lambda step: str(step["step"])),
    "j": Field("NAME", lambda step: str(step["name"])),
    "l": Field("TIME_LIMIT", lambda step: short_duration(of.limit_s(step))),
    "M": Field("TIME", lambda step: short_duration(elapsed_s(step))),
    "N": Field("NODELIST", lambda step: str(step["node_list"])),
    "P": Field("PARTITION", lambda step: str(step["partition"])),
    "S": Field("START_TIME", lambda step: instant(step["start_time"])),
    "u": Field("USER", lambda step: str(step["user_name"])),
    "U": Field("UID", lambda step: of.user_ids(step["user_name"])[0]),
}
