"""建立作业步的请求：校验，换算成业务层的 StepRequest。"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from scns_conductor.api.field_forms import NOT_FLAG, Bundle, Flag, Name, PositiveInt, Text, one_container
from scns_conductor.core.distribution import check_distribution
from scns_conductor.core.gres import parse_gres
from scns_conductor.core.memory_binding import memory_bind
from scns_conductor.core.step_resources import StepWants
from scns_conductor.core.task_binding import cpu_bind_mode, gpu_bind_mode
from scns_conductor.core.task_layout import StepShape
from scns_conductor.core.units import parse_memory_mb
from scns_conductor.services.job_steps import StepRequest
from scns_conductor.services.nodes import node_names

MAX_WORDS = 100_000
Gres = Annotated[str, Field(max_length=4096), AfterValidator(lambda text: (parse_gres(text), text)[1])]
Memory = Annotated[str | int, NOT_FLAG, AfterValidator(lambda value: (parse_memory_mb(value), value)[1])]
CpuBind = Annotated[str, Field(max_length=4096), AfterValidator(lambda text: (cpu_bind_mode(text), text)[1])]
GpuBind = Annotated[str, Field(max_length=4096), AfterValidator(lambda text: (gpu_bind_mode(text, 0), text)[1])]
MemBind = Annotated[str, Field(max_length=4096), AfterValidator(lambda text: (memory_bind(text), text)[1])]
Distribution = Annotated[str, Field(max_length=256), AfterValidator(lambda text: (check_distribution(text), text)[1])]


class StepStreams(BaseModel):
    """输入输出的去向：文件名可含 %t %n %N %J %j %s；null 表示经连接交给 srun，没有连接则写在节点的文件里。"""

    model_config = ConfigDict(extra="forbid")

    stdin: Text | None = Field(None, description="文件、none、all，或只给一个任务的序号")
    stdout: Text | None = Field(None, description="文件名、none，或只要一个任务的序号")
    stderr: Text | None = Field(None, description="文件名、none、任务的序号，或 all（交给 srun）；缺省与 stdout 相同")
    append: Flag = Field(False, description="追加而不截断")
    unbuffered: Flag = Field(False, description="标准输出经伪终端，程序就不攒着（srun -u）")
    pty: Flag = Field(False, description="0 号任务在伪终端里运行")
    rows: Annotated[int, Field(ge=0, le=65535), NOT_FLAG] = Field(0, description="终端的行数")
    columns: Annotated[int, Field(ge=0, le=65535), NOT_FLAG] = Field(0, description="终端的列数")


class StepConnection(BaseModel):
    """srun 在等的地方；节点连过来，先报口令。"""

    model_config = ConfigDict(extra="forbid")

    addresses: list[Annotated[str, Field(max_length=255)]] = Field(min_length=1, max_length=16, description="逐个试")
    port: Annotated[int, Field(ge=1, le=65535), NOT_FLAG]
    key: Annotated[str, Field(min_length=16, max_length=128)] = Field(description="一次性的口令")


class StepX11(BaseModel):
    """把节点上的 X 客户转到 srun 的显示（srun --x11），经 connection 的连接。"""

    model_config = ConfigDict(extra="forbid")

    nodes: Literal["all", "batch", "first", "last"] = Field("all", description="哪些节点；batch 是运行脚本的那一个")
    cookie: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){16}$")] = Field(
        description="节点上的 X 客户用的口令（十六进制），由 srun 核对；不是显示自己的"
    )


class StepSubmit(BaseModel):
    """要建立的作业步。"""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(None, description="名字，缺省是程序名")
    argv: Annotated[list[str], Field(min_length=1, max_length=MAX_WORDS)] = Field(description="命令")
    multi_prog: dict[str, Annotated[list[str], Field(min_length=1)]] | None = Field(
        None, description="--multi-prog：任务序号 -> 命令；没写到的用 argv"
    )
    tasks: PositiveInt | None = Field(None, description="任务数；缺省按作业的")
    nodes: PositiveInt | None = Field(None, description="最少几个节点")
    most_nodes: PositiveInt | None = Field(None, description="最多几个节点，缺省与 nodes 相同")
    tasks_per_node: PositiveInt | None = Field(None, description="每节点任务数")
    cpus_per_task: PositiveInt = Field(1, description="每任务 CPU 数")
    node_list: Text | None = Field(None, description="要用的节点，如 n[1-2]")
    excluded_nodes: Text | None = Field(None, description="不用的节点")
    plane: Annotated[int, Field(ge=0, le=65536), NOT_FLAG] = Field(
        0, description="任务怎样摆：0 成块，1 轮流（-m cyclic），N 每轮每节点 N 个（-m plane=N）"
    )
    pack: Flag = Field(False, description="成块时放满一个节点再放下一个（-m block,Pack）；缺省摊匀")
    task_hosts: list[Text] = Field(
        default_factory=list, max_length=65536, description="逐个任务所在的节点（-m arbitrary）"
    )
    exact: Flag = Field(False, description="只占要的 CPU；缺省占用到的节点上作业的全部 CPU")
    overlap: Flag = Field(False, description="可与别的作业步共用 CPU、GPU 与内存")
    overcommit: Flag = Field(False, description="任务可以比 CPU 多")
    relative: Annotated[int, Field(ge=0, le=2**20), NOT_FLAG] = Field(0, description="从作业的第几个节点用起")
    tres_per_step: Gres | None = Field(None, description="全步合计的通用资源，如 gres/gpu:4；写了就归这一步独用")
    tres_per_node: Gres | None = Field(None, description="每节点的通用资源；none 是一个也不要")
    tres_per_task: Gres | None = Field(None, description="每任务的通用资源；GPU 各任务分开看见")
    memory_per_node: Memory | None = Field(None, description="每节点的内存上限，0 是作业的全部")
    memory_per_cpu: Memory | None = Field(None, description="每 CPU 的内存上限")
    memory_per_gpu: Memory | None = Field(None, description="每 GPU 的内存上限")
    cpu_bind: CpuBind | None = Field(
        None, description="none、cores、threads、rank、map_cpu:…、mask_cpu:…，可带 verbose,"
    )
    gpu_bind: GpuBind | None = Field(None, description="none、closest、single:N、per_task:N、map_gpu:…、mask_gpu:…")
    mem_bind: MemBind | None = Field(None, description="none、local、rank、map_mem:…、mask_mem:…，可带 prefer,")
    distribution: Distribution | None = Field(
        None, description="任务的分布方式；这里只看第二段（插槽：block、cyclic、fcyclic），第一段是 plane 与 pack"
    )
    threads_per_core: PositiveInt | None = Field(None, description="一个核至多用几个线程（--hint=nomultithread 是 1）")
    mpi: Literal["none", "pmi2", "pmix"] = Field("none", description="给任务的 PMI 服务")
    task_prolog: Text | None = Field(None, description="每个任务之前以用户的身份运行的程序")
    task_epilog: Text | None = Field(None, description="每个任务之后以用户的身份运行的程序")
    container: Bundle | None = Field(None, description="在哪个 OCI bundle 的容器里运行，绝对路径")
    container_image: Text | None = Field(None, description="在哪个镜像的容器里运行")
    resv_ports: Annotated[int, Field(ge=0, le=65535), NOT_FLAG] | None = Field(
        None, description="保留几个通信端口，任务里是 SLURM_STEP_RESV_PORTS；0 是每节点最多的任务数加一"
    )
    hidden: Flag = Field(False, description="系统自己的步（sbcast），不列出来，不占步号")
    environment: dict[str, str] = Field(default_factory=dict, description="环境变量，盖过作业的")
    inherit_environment: Flag = Field(True, description="也带上作业提交时的环境变量；srun 送来的是全部，不带")
    current_working_directory: Text | None = Field(None, description="工作目录，缺省是作业的")
    umask: Annotated[int, Field(ge=0, le=0o777), NOT_FLAG] | None = Field(None, description="缺省是作业的")
    time_limit: PositiveInt | None = Field(None, description="时限（秒）")
    release_allocation: Flag = Field(False, description="做完就交还整个分配（独立的 srun）；只对没有脚本的分配有效")
    streams: StepStreams = Field(default_factory=StepStreams)
    connection: StepConnection | None = None
    x11: StepX11 | None = Field(None, description="转发 X11；没有 connection 的没有作用")

    @model_validator(mode="after")
    def _one_container(self) -> Self:
        one_container(self.container, self.container_image)
        return self

    @field_validator("argv")
    @classmethod
    def _no_nul(cls, value: list[str]) -> list[str]:
        if any("\0" in word for word in value):
            raise ValueError("命令里含有 NUL 字节")
        return value

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name or "=" in name or "\0" in name or "\0" in text:
                raise ValueError(f"环境变量 {name[:64]!r} 不合法")
        return value

    def request(self) -> StepRequest:
        """换算好的；节点列表写错抛 InvalidRequest。"""
        shape = StepShape(
            tasks=self.tasks,
            nodes=self.nodes,
            most_nodes=self.most_nodes,
            tasks_per_node=self.tasks_per_node,
            cpus_per_task=self.cpus_per_task,
            node_names=node_names(self.node_list, "node_list"),
            excluded=node_names(self.excluded_nodes, "excluded_nodes"),
            plane=self.plane,
            pack=self.pack,
            hosts=tuple(self.task_hosts),
            whole=not self.exact and not self.overlap,
            overlap=self.overlap,
            relative=self.relative,
            overcommit=self.overcommit,
        )
        wants = StepWants(
            per_step=parse_gres(self.tres_per_step or ""),
            per_node=parse_gres(self.tres_per_node or ""),
            per_task=parse_gres(self.tres_per_task or ""),
            nothing=(self.tres_per_node or "").lower() == "none",
            memory_per_node=_megabytes(self.memory_per_node),
            memory_per_cpu=_megabytes(self.memory_per_cpu),
            memory_per_gpu=_megabytes(self.memory_per_gpu),
            overlap=self.overlap,
        )
        launch = self.model_dump(
            include={
                "argv",
                "multi_prog",
                "environment",
                "inherit_environment",
                "current_working_directory",
                "umask",
                "time_limit",
                "release_allocation",
                "streams",
                "connection",
                "x11",
                "cpu_bind",
                "gpu_bind",
                "mem_bind",
                "distribution",
                "threads_per_core",
                "mpi",
                "task_prolog",
                "task_epilog",
                "container",
                "container_image",
                "tres_per_task",
            }
        )
        name = self.name or self.argv[0].rpartition("/")[2] or "step"
        return StepRequest(name[:255], shape, wants, self.hidden, self.resv_ports, launch)


class HetStepPart(BaseModel):
    """异构作业一个部分里的那一份。"""

    model_config = ConfigDict(extra="forbid")

    component: Annotated[int, Field(ge=0, le=127), NOT_FLAG] = Field(description="第几个部分")
    step: StepSubmit = Field(description="要建立的作业步")


class HetStepSubmit(BaseModel):
    """跨异构作业几个部分的一步：任务的序号接着排，都建立或都不建立。"""

    model_config = ConfigDict(extra="forbid")

    steps: list[HetStepPart] = Field(min_length=1, max_length=128, description="各个部分的，一个部分至多一个")


def _megabytes(value: str | int | None) -> int | None:
    return None if value is None else parse_memory_mb(value)
