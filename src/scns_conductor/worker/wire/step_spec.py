"""一个作业步在一个节点上要做什么：代理写成文件，作业步的主人（worker/step）读了就删。"""

from __future__ import annotations

from scns_conductor.worker.wire.container_spec import ContainerSpec
from scns_conductor.worker.wire.record import Record


class ClientAddress(Record):
    """作业步要连回的客户（srun、sattach）：逐个地址试，连上先报口令。"""

    addresses: list[str]
    port: int
    key: str


class StepStreams(Record):
    """输入输出怎样接：pty 是伪终端（0 号任务），行列 0 表示不知道；unbuffered 逐行，append 追加。"""

    pty: bool = False
    rows: int = 0
    columns: int = 0
    unbuffered: bool = False
    append: bool = False


class X11Request(Record):
    """srun --x11：在哪些节点上（all、batch、first、last），节点上的 X 客户用的口令（十六进制）。"""

    nodes: str
    cookie: str


class TaskFiles(Record):
    """一个任务的三路文件；None 表示走连接。"""

    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None


class TaskSpec(Record):
    """一个任务自己的：序号、文件、看得见的卡等变量、绑的核、内存在哪些 NUMA 节点；argv 是 --multi-prog 里它的命令。"""

    rank: int
    files: TaskFiles
    env: dict[str, str]
    cpu_ids: list[int] | None = None
    memory_nodes: list[int] | None = None
    argv: list[str] | None = None


class StepSpec(Record):
    """step 是“作业号.步号”；nodes 是各节点上的任务序号，按作业的次序；task_count 是全部节点合计。

    place 是这一份在 nodes 里的名字，None 就是 node；异构作业的几个部分可以在同一个节点上。

    uid、gid、groups 为 None 表示不换用户。shared_files：几个任务写同一个文件，都追加。
    connection 为 None 表示没有 srun，输出都在文件里。tell_binding：说出绑了哪些核。
    memory_preferred：memory_nodes 放不下时可以用别的 NUMA 节点。
    x11_cookie 是本节点上要转发 X11 的口令（十六进制），None 是不转发；x11_folder 是要建的目录，任务的用户走得到。
    rlimits 是任务的 名字 -> [软上限, 硬上限]。
    """

    node: str
    step: str
    tasks: list[TaskSpec]
    argv: list[str]
    env: dict[str, str]
    cwd: str
    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None
    umask: int
    streams: StepStreams
    shared_files: bool
    connection: ClientAddress | None = None
    nodes: dict[str, list[int]]
    task_count: int
    mpi: str = "none"
    tell_binding: bool = False
    memory_preferred: bool = False
    task_prolog: str | None = None
    task_epilog: str | None = None
    place: str | None = None
    container: ContainerSpec | None = None
    x11_cookie: str | None = None
    x11_folder: str | None = None
    rlimits: dict[str, list[int]] | None = None

    @property
    def own_place(self) -> str:
        """这一份在 nodes 里的名字。"""
        return self.node if self.place is None else self.place

    @property
    def ranks(self) -> list[int]:
        """本节点上的任务序号。"""
        return [task.rank for task in self.tasks]
