"""脚本文件：备用的文件不带出旧内容，也不牵连别的名字。"""

import os
from pathlib import Path

import pytest

from scns_conductor.worker.shepherd.launch_fault import LaunchFault
from scns_conductor.worker.shepherd.script_files import SPARES_MOST, ScriptFiles, unlink_script, write_script
from scns_conductor.worker.wire.launch_spec import LaunchSpec


@pytest.fixture
def scripts(tmp_path: Path) -> ScriptFiles:
    """一个牧守进程的脚本文件。"""
    (tmp_path / "spool").mkdir()
    return ScriptFiles(str(tmp_path / "spool"))


def spec(path: Path, script: str) -> LaunchSpec:
    """写 script 到 path 的启动。"""
    return LaunchSpec(
        job_id=1, attempt=0, step="batch", argv=["/bin/sh", str(path)], env={}, cwd="/", script=script,
        script_path=str(path),
    )  # fmt: skip


def test_reused_file_holds_only_the_new_script(scripts: ScriptFiles, tmp_path: Path) -> None:
    first, second = tmp_path / "job_1.sh", tmp_path / "job_2.sh"
    inode = scripts.write(spec(first, "一个很长的脚本\n" * 100))
    scripts.discard(str(first), inode, reusable=True)
    assert not first.exists()
    scripts.write(spec(second, "短\n"))
    assert second.read_text() == "短\n"
    assert (second.stat().st_ino, second.stat().st_mode) == (inode, 0o100700)


def test_a_discarded_script_leaves_no_text_behind(scripts: ScriptFiles, tmp_path: Path) -> None:
    path = tmp_path / "job_1.sh"
    scripts.discard(str(path), scripts.write(spec(path, "口令\n")), reusable=True)
    assert [len(file.read_bytes()) for file in (tmp_path / "spool").iterdir()] == [1]
    scripts.close()
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("spoil", ["link", "mode", "not_reusable"])
def test_a_file_that_someone_may_still_use_is_never_written_again(
    scripts: ScriptFiles, tmp_path: Path, spoil: str
) -> None:
    path, other = tmp_path / "job_1.sh", tmp_path / "copy.sh"
    inode = scripts.write(spec(path, "旧\n"))
    if spoil == "link":
        os.link(path, other)
    if spoil == "mode":
        path.chmod(0o755)
    with path.open() as still_open:
        scripts.discard(str(path), inode, reusable=spoil != "not_reusable")
        scripts.write(spec(tmp_path / "job_2.sh", "新\n"))
        assert still_open.read() == "旧\n"
    assert not path.exists()
    assert not other.exists() or other.read_text() == "旧\n"


def test_spares_are_bounded_and_missing_files_are_no_error(scripts: ScriptFiles, tmp_path: Path) -> None:
    paths = [tmp_path / f"job_{index}.sh" for index in range(SPARES_MOST + 5)]
    inodes = [scripts.write(spec(path, "x\n")) for path in paths]
    for path, inode in zip(paths, inodes, strict=True):
        scripts.discard(str(path), inode, reusable=True)
    assert len(list((tmp_path / "spool").iterdir())) == SPARES_MOST
    scripts.discard(str(paths[0]), inodes[0], reusable=True)
    for file in (tmp_path / "spool").iterdir():
        file.unlink()
    scripts.write(spec(paths[0], "y\n"))
    assert paths[0].read_text() == "y\n"


def test_an_unwritable_place_is_the_nodes_fault(scripts: ScriptFiles) -> None:
    with pytest.raises(LaunchFault) as caught:
        scripts.write(spec(Path("/nowhere/job_1.sh"), "x\n"))
    assert caught.value.on_node


def test_a_script_rewritten_by_another_node_is_left_alone(scripts: ScriptFiles, tmp_path: Path) -> None:
    path = tmp_path / "job_1.sh"
    inode = scripts.write(spec(path, "第一次尝试\n"))
    (tmp_path / "other").mkdir()
    other = ScriptFiles(str(tmp_path / "other"))
    other.write(spec(path, "第二次尝试\n"))
    scripts.discard(str(path), inode, reusable=True)
    assert path.read_text() == "第二次尝试\n"


def test_a_script_written_aside_in_place_of_an_old_one_is_another_file(tmp_path: Path) -> None:
    # 数据库恢复之后，同号的作业先启动，旧的再收走：收的不能是新的那一个。
    path = tmp_path / "job_1.sh"
    inode = write_script(spec(path, "旧的\n"))
    (tmp_path / "job_1.sh.new").write_text("写到一半的\n")
    write_script(spec(path, "新的\n"))
    unlink_script(str(path), inode)
    assert path.read_text() == "新的\n"
    assert os.listdir(tmp_path) == ["job_1.sh"]
