"""测试用的真系统：内嵌的 PostgreSQL 与 Valkey，以及完整的 scns up。没有任何替身。

- engines：整个测试会话共用的两个引擎。
- settings：一个全新的、已迁移的数据库，配自己的数据目录；测试完就删。
- empty_settings：同上，但数据库是空的（迁移测试用）。
- debian_postgres：Debian 自己的 PostgreSQL，缺省设置（jit 开着）；数据库各自建。
- running_system：整个测试会话共用的 scns up（url、token），每个文件开始时没有作业。
  要杀它、停它、弄乱它的测试自己用 start_system 起一个。
"""

import gc
import os
import pwd
import random
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from hypothesis import settings as search
from xdist.scheduler import LoadFileScheduling

import engine_template
import warm_commands
from debian_postgres import DebianPostgres
from debian_postgres import debian_postgres as started_debian_postgres
from lent_systems import USERS, LentSystems
from own_database import TEMPLATE, execute, settings_for
from running_system import RunningSystem, database_url, forget_jobs, start_system
from scns_conductor import migrations
from scns_conductor.core.settings import Settings
from scns_conductor.local import postgres
from scns_conductor.local.engines import Engines, running_engines
from scns_conductor.local.postgres import DATABASE

# 数据库、引擎的文件放在内存里（够大才放；tmp_path 仍在盘上）：每个测试建一个库又删掉，七百个文件，在盘上要四倍的 CPU。
MEMORY = Path("/dev/shm")
MEMORY_LEAST = 6 << 30


def _fits(place: Path) -> bool:
    """写得进、里面的脚本执行得了（容器里往往 noexec）、够大。"""
    if not os.access(place, os.W_OK | os.X_OK) or os.statvfs(place).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(place).free > MEMORY_LEAST


if _fits(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    tempfile.tempdir = str(MEMORY)

# 收集时装载的几十万个对象都留着：一遍遍地找垃圾要占收集的四成，几个 xdist 的进程各收集一遍。收集完再打开。
gc.disable()

# 每个性质找几个例子：make test 二十来个，make test-faults（longer）两百个，thorough 久久地找。机器忙时一个例子可以慢。
# 同样的代码得同样的例子：CI 拦下的是这次改动，不是碰巧；新的例子用 thorough 找，找到的写成测试。
search.register_profile("default", max_examples=25, deadline=None, derandomize=True)
search.register_profile("longer", max_examples=200, deadline=None, derandomize=True)
search.register_profile("thorough", max_examples=1000, deadline=None)
search.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# 跑得久的文件先开始：一个文件总在同一个进程里，最后才轮到它们的话，别的进程都闲着等。合用一套系统的几个文件也是。
LONG_FIRST = (
    "test_srun", "test_limits_live", "test_sacctmgr", "test_reservations",
    "test_api_coverage_cluster", "test_why_truth", "test_api_schemathesis", "test_scheduler_live",
    "test_api_coverage_jobs", "test_scheduler_locks", "test_shepherd_memory", "test_migrations", "test_slurmrestd_fuzz",
    "test_network_namespaces", "test_node_agent", "test_agent_stop", "test_slurmrestd", "test_agent_faults",
    "test_node_faults", "test_faults_system", "test_executor", "test_mail", "test_retention",
    "test_tls_proxy", "test_demo", "test_simulate_live", "test_debian_postgres",
)  # fmt: skip


FOLLOWING = pytest.StashKey[pytest.Item | None]()


def pytest_configure(config: pytest.Config) -> None:
    """xdist 的各个进程合用的：载入好了的进程（warm_commands.py）、数据库的样板放在哪里；只由主进程定。"""
    if hasattr(config, "workerinput"):
        return
    place = tempfile.mkdtemp(prefix="scns-shared-")
    config.add_cleanup(lambda: shutil.rmtree(place))
    os.environ |= {warm_commands.SHARED: place, warm_commands.OWNER: str(os.getpid())}
    if "TEST_POSTGRES_BIN" not in os.environ:
        os.environ[engine_template.PLACE] = place


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """几个进程一起跑时文件的次序：LONG_FIRST 的先，其余测试多的先；一个文件里的次序不变。"""
    if not hasattr(config, "workerinput"):
        return
    sizes = Counter(item.path for item in items)
    ranks = {name: rank for rank, name in enumerate(LONG_FIRST)}

    def place(item: pytest.Item) -> tuple[int, int, str]:
        return ranks.get(item.path.stem, len(ranks)), -sizes[item.path], str(item.path)

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """收拾的夹具要知道下一个测试是谁。"""
    item.session.stash[FOLLOWING] = nextitem


class TogetherScheduling(LoadFileScheduling):  # type: ignore[misc]
    """一个文件总在同一个进程里，借同一种系统的几个文件也是。"""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return USERS.get(Path(path).stem, path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """只替换 --dist loadfile。"""
    return TogetherScheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """收集到的不会消失，以后也不必走过它们。"""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """使用者自己的 SCNS_ 环境变量与 scns.toml 不影响测试。"""
    saved = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("SCNS_", "SLURM_", "PG"))]:
        del os.environ[name]
    # 测试起的进程存得下字节码，不必每个都把整个包再编译一遍。
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # 测试里同时有许多套：指标页只在要看它的测试里开。
    os.environ |= {f"SCNS_{name}_METRICS": "" for name in ("SCHEDULER", "AGENT", "WEB")}
    yield
    os.environ.clear()
    os.environ.update(saved)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """短路径的临时目录：套接字的路径不能超过 107 字节，pytest 的 tmp_path 往往太长。"""
    path = Path(tempfile.mkdtemp(prefix="scns-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def walkable(scratch: Path) -> Path:
    """别的用户也走得进的目录。pytest 的 tmp_path 不行：每次会话开始都把上层收回 0700，另一次运行就关了这一次的门。"""
    scratch.chmod(0o711)
    path = Path(tempfile.mkdtemp(dir=scratch))
    path.chmod(0o711)
    return path


def use_installed_postgres(scratch: Path) -> None:
    """TEST_POSTGRES_BIN=/usr/lib/postgresql/15/bin：engines 用系统装的那个版本（14 起），不用内嵌的。"""
    installed = os.environ.get("TEST_POSTGRES_BIN")
    if not installed:
        return
    root = scratch / "programs"
    place = root / postgres.PROGRAMS
    place.mkdir(parents=True)
    (place / "postgres").symlink_to(f"{installed}/postgres")
    # 旧版本没有的选项与参数去掉；jit 也用它自己的缺省值。
    (place / "initdb").write_text(
        "#!/bin/bash\nkept=()\n"
        'for each; do [[ $each == --*locale*=?*UTF-8 || $each == --locale-provider=* ]] || kept+=("$each"); done\n'
        f'exec {installed}/initdb "${{kept[@]}}"\n'
    )
    (place / "initdb").chmod(0o755)
    for path in (place, *place.parents):
        if path.is_relative_to(scratch):
            path.chmod(0o755)
    kept = [line for line in postgres._CONFIGURATION.splitlines(True) if not line.startswith(("io_workers", "jit"))]
    postgres._CONFIGURATION = "".join(kept)
    postgres._installation = lambda: root


@pytest.fixture(scope="session")
def engines(scratch: Path) -> Iterator[Engines]:
    """整个会话共用的两个引擎，数据库 scns_migrated 已升级到最新。"""
    use_installed_postgres(scratch)
    engine_template.copy_template(scratch / "engines")
    with running_engines(scratch / "engines") as started:
        # 每个测试建一个库又删掉：等盘几百次，一次两三秒；这里的库不必熬过断电。
        execute(started, "ALTER SYSTEM SET fsync = off")
        execute(started, "SELECT pg_reload_conf()")
        migrations.upgrade(settings_for(started, DATABASE, scratch))
        execute(started, f"CREATE DATABASE {TEMPLATE} TEMPLATE {DATABASE}")
        yield started


def _database(engines: Engines, data_dir: Path, template: str) -> Iterator[Settings]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    execute(engines, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    with redis.Redis.from_url(engines.redis_url) as client:
        client.flushall()
    yield settings_for(engines, name, data_dir)
    execute(engines, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(engines: Engines, tmp_path: Path) -> Iterator[Settings]:
    """全新的、已迁移的数据库。"""
    yield from _database(engines, tmp_path, TEMPLATE)


@pytest.fixture
def empty_settings(engines: Engines, tmp_path: Path) -> Iterator[Settings]:
    """全新的空数据库。"""
    yield from _database(engines, tmp_path, "template0")


@pytest.fixture(scope="session")
def debian_postgres() -> Iterator[DebianPostgres]:
    """整个会话共用的 Debian 的 PostgreSQL，缺省设置。"""
    with started_debian_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def shared_system(scratch: Path) -> Iterator[RunningSystem]:
    """整个测试会话共用的完整系统：一个节点 node1，8 CPU、16 GiB。

    没有写工作目录的作业在家目录里留下 slurm-作业号.out：几个测试进程的系统各用各的号，用完收走。
    """
    first = last = random.randrange(10**6, 10**9)
    with start_system(scratch / "system", "--nodes", "1", "--cpus", "8", "--memory", "16G") as system:
        with psycopg.connect(database_url(system), autocommit=True) as connection:
            connection.execute(f"ALTER SEQUENCE jobs_job_id_seq RESTART WITH {first}")
        yield system
        if system.process.poll() is None:
            with psycopg.connect(database_url(system)) as connection:
                (last,) = connection.execute("SELECT last_value FROM jobs_job_id_seq").fetchone() or (first,)
    for path in Path(pwd.getpwuid(os.getuid()).pw_dir).glob("slurm-*.out"):
        number = path.stem.removeprefix("slurm-").partition("_")[0]
        if number.isdigit() and first <= int(number) <= last:
            path.unlink()


@pytest.fixture(scope="session")
def otlp() -> Iterator[tuple[str, Any]]:
    """收轨迹的服务器：它的地址，收到的。"""
    from otlp_receiver import otlp_receiver

    with otlp_receiver() as found:
        yield found


@pytest.fixture(scope="session")
def watched_system(scratch: Path, otlp: tuple[str, Any]) -> Iterator[RunningSystem]:
    """看它自己说了什么的系统：指标页都开着，轨迹送到 otlp，日志是 JSON、什么都记；带看板，两个节点。"""
    environment = {
        **{f"SCNS_{name}_METRICS": "127.0.0.1:0" for name in ("SCHEDULER", "AGENT", "WEB")},
        "SCNS_OTEL_ENDPOINT": otlp[0],
        "SCNS_LICENSES": "matlab:2",
        "SCNS_LOG_FORMAT": "json",
        "SCNS_LOG_LEVEL": "DEBUG",
        # SDK 攒着送：缺省五秒一次。
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with start_system(scratch / "watched", "--web", "--nodes", "2", "--cpus", "2", environment=environment) as system:
        yield system


@pytest.fixture(scope="module")
def running_system(shared_system: RunningSystem) -> Iterator[RunningSystem]:
    """共用的系统；一个文件的作业在它完了之后取消、删掉，下一个文件从没有作业的系统开始。"""
    yield shared_system
    if shared_system.process.poll() is None:
        forget_jobs(shared_system)


@pytest.fixture(scope="session")
def lent_systems(scratch: Path) -> Iterator[LentSystems]:
    """整个测试会话的、各种样子的系统（lent_systems.py）。"""
    systems = LentSystems(scratch / "lent")
    yield systems
    systems.close()


@pytest.fixture(scope="module")
def lent_system(lent_systems: LentSystems, request: pytest.FixtureRequest) -> Iterator[RunningSystem]:
    """这个文件要的样子（USERS 里写的）的一套，没有作业，设置如初；用完恢复原样。"""
    shape = USERS[request.module.__name__]
    system = lent_systems.lend(shape)
    yield system
    following = request.session.stash[FOLLOWING]
    # xdist 把一种的几个文件连着交给一个进程：下一个测试不用它，就没有人用了。
    if hasattr(request.config, "workerinput") and (following is None or USERS.get(following.path.stem) != shape):
        lent_systems.end(shape)
    else:
        lent_systems.take_back(shape)
