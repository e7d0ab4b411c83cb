"""建立作业步与对它做的事的回答。"""

from typing import Annotated, TypedDict


class StepNodeTasks(TypedDict):
    """作业步在一个节点上的任务。"""

    name: Annotated[str, "节点；异构作业里第 n 个部分的写成 节点+n（第 0 个不写）"]
    tasks: Annotated[list[int], "任务的序号"]


class StepAttached(TypedDict):
    """接上了的作业步。"""

    job_id: Annotated[str, "作业号"]
    step_id: Annotated[int, "作业步号"]
    tasks: Annotated[int, "共几个任务"]
    nodes: Annotated[list[StepNodeTasks], "还在跑的各节点上的任务"]


class StepCreated(TypedDict):
    """建立了的作业步。"""

    job_id: Annotated[str, "作业号"]
    step_id: Annotated[int, "作业步号"]
    tasks: Annotated[int, "共几个任务"]
    node_list: Annotated[str, "用到的节点，压缩写法"]
    nodes: Annotated[list[StepNodeTasks], "各节点上的任务"]


class StepActed(TypedDict):
    """对作业步做了一件事。"""

    job_id: Annotated[str, "作业号，照问的写法"]
    step_id: Annotated[int, "作业步号"]
    state: Annotated[str, "此刻的状态"]


class StepRelaunched(TypedDict):
    """启动的消息又送了一遍。"""

    job_id: Annotated[str, "作业号，照问的写法"]
    step_id: Annotated[int, "作业步号"]
    pending_nodes: Annotated[list[str], "还没有做完它的节点"]
