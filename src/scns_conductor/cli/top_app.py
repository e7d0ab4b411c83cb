"""scns top 的主屏：顶上两行是集群，下面是队列或节点；每隔几秒看一次，选中的那一行不变。"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static

from scns_conductor.cli.job_text import job_label
from scns_conductor.cli.top_rows import (
    JOB_FIELDS,
    JOB_HEADER,
    NODE_HEADER,
    headed,
    job_cells,
    node_cells,
    plain,
    rows_of,
    summary,
)
from scns_conductor.cli.top_screens import HelpScreen, LogScreen, SureScreen, WhyScreen
from scns_conductor.client import AsyncClient
from scns_conductor.client.problem import ClientError, Problem
from scns_conductor.client.request import Request
from scns_conductor.language import told

# 运行的、排队的各至多列这么多。
MOST_ROWS = 200
# 有要找的字时，在这么多个里找。
MOST_SEARCHED = 2000
# 只在列表里管用的键。
LIST_ACTIONS = frozenset({"switch", "mine", "filter", "help"})
ACTIONS = {"cancel": "取消", "hold": "保留", "release": "放行"}
SPOKEN = {"cancel": "已取消", "hold": "已保留", "release": "已放行"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """看什么：own_name 是令牌里的自己；user、partition 为空是全部；text 是要找的字；pause_s 是隔几秒看一次。"""

    own_name: str
    user: str | None = None
    partition: str | None = None
    nodes: bool = False
    pause_s: float = 2.0
    text: str = ""

    @property
    def scope(self) -> str:
        """只看哪些，给人看的。"""
        parts = [(told("用户"), self.user), (told("分区"), self.partition), (told("找"), self.text)]
        return "  ".join(f"{word} {plain(value)}" for word, value in parts if value)


class Rows(DataTable[Text]):
    """队列或节点的表；回车写在最下面一行里。"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", told("输出")),
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]


class TopApp(App[None]):
    """见模块的说明。"""

    CSS = """
    #summary { height: 2; padding: 0 1; }
    #trouble { height: auto; padding: 0 1; background: $error; color: $text; display: none; }
    #filter { height: 3; display: none; }
    Rows { height: 1fr; scrollbar-size-horizontal: 0; }
    #title { height: 1; padding: 0 1; text-style: bold; }
    RichLog { height: 1fr; padding: 0 1; }
    ModalScreen { align: center middle; }
    .box { width: 90%; max-width: 100; height: auto; max-height: 90%;
            border: round $primary; padding: 1 2; background: $surface; }
    .box.small { max-width: 60; }
    .hint { color: $text-muted; margin-top: 1; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "why", told("为什么")),
        Binding("c", "act('cancel')", told("取消")),
        Binding("h", "act('hold')", told("保留")),
        Binding("r", "act('release')", told("放行")),
        Binding("tab", "switch", told("节点"), priority=True),
        Binding("m", "mine", told("我的")),
        Binding("slash", "filter", told("找"), key_display="/"),
        Binding("question_mark", "help", told("键"), key_display="?"),
        Binding("q", "quit", told("退出")),
    ]

    def __init__(self, connect: Callable[[], AsyncClient], wanted: Wanted) -> None:
        super().__init__()
        self._connect, self._wanted = connect, wanted
        self._rows: dict[str, dict[str, Any]] = {}
        self._seen_at: float | None = None
        self._shown_header: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        """主屏。"""
        yield Static("", id="summary")
        yield Static("", id="trouble", markup=False)
        yield Input(placeholder=told("作业号、名字、用户、节点里含的字；回车确定，空的是全部"), id="filter")
        yield Rows(cursor_type="row")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """开始看。"""
        self.client = self._connect()
        self.query_one(DataTable).focus()
        self._look()
        self.set_interval(self._wanted.pause_s, self._look)

    async def on_unmount(self) -> None:
        """关掉连接。"""
        await self.client.close()

    # 看一次；API 不在就说一声，留着旧的。
    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        trouble = ""
        try:
            board = await self.client.send(Request("GET", "/dashboard"))
            rows, header = await (self._look_at_nodes() if self._wanted.nodes else self._look_at_jobs())
        except Problem as problem:
            if problem.status in (401, 403):
                self.exit(return_code=1, message=f"scns：{told(problem.detail)}")
                return
            trouble = str(problem)
        except ClientError as error:
            trouble = str(error)
        if not self.query("#trouble"):
            # 等回答的时候退出了：画面已经拆掉。
            return
        if trouble:
            self._trouble(trouble)
            return
        self._seen_at = time.time()
        self.query_one("#trouble").display = False
        self.query_one("#summary", Static).update(summary(board, self._wanted.scope))
        self._show(header, rows)

    def _trouble(self, text: str) -> None:
        """一行红的：出了什么事，看到的是何时的。"""
        when = time.strftime("%H:%M:%S", time.localtime(self._seen_at)) if self._seen_at else "-"
        bar = self.query_one("#trouble", Static)
        bar.update(plain(f"{told(text)} · {told('数据停在')} {when}"))
        bar.display = True

    async def _look_at_jobs(self) -> tuple[list[tuple[str, list[Text]]], tuple[str, ...]]:
        query = {
            "user": self._wanted.user,
            "partition": self._wanted.partition,
            "limit": MOST_SEARCHED if self._wanted.text else MOST_ROWS,
            "fields": JOB_FIELDS,
        }
        found = []
        for state, sort in (("RUNNING,SUSPENDED", "-job_id"), ("PENDING", "job_id")):
            page = await self.client.jobs_page(**query, state=state, sort=sort)
            found += [job for job in page["jobs"] if self._matches(job_label(job), job["name"], job["user_name"])]
        now = datetime.now(UTC)
        self._rows = {str(job["job_id"]): job for job in found}
        return [(key, job_cells(job, now)) for key, job in self._rows.items()], JOB_HEADER

    async def _look_at_nodes(self) -> tuple[list[tuple[str, list[Text]]], tuple[str, ...]]:
        found = rows_of(await self.client.send(Request("GET", "/nodemap")))
        chosen = [
            node
            for node in found
            if (not self._wanted.partition or self._wanted.partition in str(node["partitions"]).split(","))
            and self._matches(node["name"])
        ]
        self._rows = {str(node["name"]): node for node in chosen}
        return [(key, node_cells(node)) for key, node in self._rows.items()], NODE_HEADER

    def _matches(self, *words: object) -> bool:
        """有一个里含着要找的字，不分大小写。"""
        return any(self._wanted.text.lower() in str(word).lower() for word in words)

    def _show(self, header: tuple[str, ...], rows: list[tuple[str, list[Text]]]) -> None:
        """换上新的行；选中的还是那一个，它没有了就是同一个位置。"""
        table = self.query_one(DataTable)
        chosen, at, scroll = self.chosen, table.cursor_row, table.scroll_y
        table.clear(columns=header != self._shown_header)
        if header != self._shown_header:
            for word in headed(header):
                table.add_column(word)
            self._shown_header = header
        for key, cells in rows:
            table.add_row(*cells, key=key)
        if not rows:
            return
        keys = [key for key, _ in rows]
        table.move_cursor(row=keys.index(chosen) if chosen in keys else min(at, len(rows) - 1), scroll=False)
        table.scroll_to(y=scroll, animate=False)

    @property
    def chosen(self) -> str | None:
        """选中的作业号或节点名。"""
        table = self.query_one(DataTable)
        if not table.row_count or not table.is_valid_row_index(table.cursor_row):
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def _job(self) -> dict[str, Any] | None:
        """选中的作业；在看节点、一个也没有时是 None。"""
        return None if self._wanted.nodes or self.chosen is None else self._rows.get(self.chosen)

    # ---- 键 ----

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """在看输出时，列表的键不管用。"""
        return len(self.screen_stack) == 1 or action not in LIST_ACTIONS

    def on_data_table_row_selected(self) -> None:
        """回车、点一下：看它的输出。"""
        job = self._job()
        if job is not None:
            self.push_screen(LogScreen(self.client, job_label(job), begun=job["state"] != "PENDING"))

    def action_why(self) -> None:
        """选中的作业为什么还没有开始。"""
        job = self._job()
        if job is not None:
            self.push_screen(WhyScreen(self.client, str(job["job_id"])))

    def action_act(self, name: str) -> None:
        """取消（先问）、保留、放行选中的作业。"""
        job = self._job()
        if job is None:
            return
        # 数组还没有拆开的那一行：动的是整个数组。
        target = str(job["array_job_id"] if job.get("array_remaining") else job["job_id"])
        if name != "cancel":
            self._act(name, target)
            return
        question = f"{told(ACTIONS[name])} {job_label(job)} {plain(str(job['name']))}?"

        def answered(sure: bool | None) -> None:
            if sure:
                self._act(name, target)

        self.push_screen(SureScreen(question), answered)

    @work
    async def _act(self, name: str, job_id: str) -> None:
        try:
            if name == "cancel":
                await self.client.cancel(job_id)
            elif name == "hold":
                await self.client.hold(job_id)
            else:
                await self.client.release(job_id)
        except ClientError as error:
            self.notify(plain(told(str(error))), severity="error", markup=False)
        else:
            self.notify(f"{told(SPOKEN[name])} {job_id}", markup=False)
        self._look()

    def action_switch(self) -> None:
        """队列与节点之间换。"""
        self._wanted = replace(self._wanted, nodes=not self._wanted.nodes)
        self._look()

    def action_mine(self) -> None:
        """只看自己的，再按一次看全部。"""
        own = self._wanted.own_name
        self._wanted = replace(self._wanted, user=None if self._wanted.user == own else own, nodes=False)
        self._look()

    def action_filter(self) -> None:
        """写要找的字。"""
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self._wanted.text
        box.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """要找的字写好了。"""
        event.input.display = False
        self._wanted = replace(self._wanted, text=event.value.strip())
        self.query_one(DataTable).focus()
        self._look()

    def action_help(self) -> None:
        """全部的键。"""
        keys = [("↑ ↓", told("选一行")), ("enter", told("输出"))]
        keys += [
            (each.key_display or each.key, each.description) for each in self.BINDINGS if isinstance(each, Binding)
        ]
        self.push_screen(HelpScreen(keys))
