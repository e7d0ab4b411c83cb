"""系统在哪里：环境变量、数据目录的 client.json。"""

import base64
import json
import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from scns_conductor.client import TERMINAL_STATES, Endpoint, EndpointUnknown, endpoint, find_endpoint
from scns_conductor.client.endpoint import client_files
from scns_conductor.client.token_claims import user_name_of
from scns_conductor.core import states
from scns_conductor.core.config_file import default_data_dir


def written(directory: Path, url: str = "http://127.0.0.1:1", token: str = "文件的令牌") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "client.json"
    path.write_text(json.dumps({"url": url, "token": token, "pid": 1}))
    return path


def test_the_environment_comes_first(tmp_path: Path) -> None:
    written(tmp_path)
    found = find_endpoint({"SCNS_URL": "http://a:1/", "SCNS_TOKEN": "t", "SCNS_DATA_DIR": str(tmp_path)})
    assert found == Endpoint("http://a:1", "t", "SCNS_URL")


def test_the_data_directory_is_read_and_no_other(tmp_path: Path) -> None:
    path = written(tmp_path / "one")
    assert find_endpoint({"SCNS_DATA_DIR": str(tmp_path / "one")}) == Endpoint(
        "http://127.0.0.1:1", "文件的令牌", str(path)
    )
    with pytest.raises(EndpointUnknown, match="scns up"):
        find_endpoint({"SCNS_DATA_DIR": str(tmp_path / "two"), "HOME": str(tmp_path / "one")})


def test_a_token_is_not_sent_to_another_system(tmp_path: Path) -> None:
    written(tmp_path)
    environment = {"SCNS_DATA_DIR": str(tmp_path)}
    assert find_endpoint({**environment, "SCNS_URL": "http://elsewhere:1"}).token is None
    assert find_endpoint({**environment, "SCNS_URL": "http://127.0.0.1:1/"}).token == "文件的令牌"
    assert find_endpoint({**environment, "SCNS_TOKEN": "别的"}).token == "别的"


def test_a_broken_client_file_is_named(tmp_path: Path) -> None:
    written(tmp_path).write_text("{")
    with pytest.raises(EndpointUnknown, match=r"client\.json"):
        find_endpoint({"SCNS_DATA_DIR": str(tmp_path)})


def test_the_default_places_are_those_of_the_server() -> None:
    assert client_files({"HOME": str(Path.home())})[0] == os.path.join(default_data_dir(), "client.json")


def test_a_token_does_not_show_in_a_printed_endpoint() -> None:
    assert "秘密" not in repr(Endpoint("http://a", "秘密", "SCNS_URL"))


def test_the_terminal_states_are_those_of_the_server() -> None:
    assert frozenset(states.TERMINAL_STATES) == TERMINAL_STATES


def test_the_user_is_read_from_the_token() -> None:
    payload = base64.urlsafe_b64encode(json.dumps({"sun": "爱丽丝"}).encode()).decode().rstrip("=")
    assert user_name_of(Endpoint("http://a", f"x.{payload}.y", "")) == "爱丽丝"
    for broken in (None, "", "abc", "a.b.c", "a.!.c"):
        with pytest.raises(EndpointUnknown):
            user_name_of(Endpoint("http://a", broken, ""))


def test_over_the_local_socket_the_user_is_who_runs_it() -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert user_name_of(Endpoint("unix:///run/x", None, "")) == me
    # 带了令牌就是令牌里的。
    payload = base64.urlsafe_b64encode(b'{"sun":"bob"}').decode()
    assert user_name_of(Endpoint("unix:///run/x", f"x.{payload}.y", "")) == "bob"


def test_the_local_socket_is_for_those_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(tempfile.mkdtemp(prefix="scns-")) / "s"
    system_file = tmp_path / "system.json"
    monkeypatch.setattr(endpoint, "LOCAL_SOCKET", str(place))
    monkeypatch.setattr(endpoint, "SYSTEM_FILE", str(system_file))
    # root 的数据目录在 /var/lib：测试的机器上没有系统。
    home = {"HOME": str(tmp_path / "home")}
    try:
        with pytest.raises(EndpointUnknown):
            find_endpoint(home)
        system_file.write_text('{"url": "https://head:6820"}')
        assert find_endpoint(home).url == "https://head:6820"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(place))
            assert find_endpoint(home) == Endpoint(f"unix://{place}", None, str(place))
            assert find_endpoint({**home, "SCNS_TOKEN": "t"}).url == "https://head:6820"
            assert find_endpoint({**home, "SCNS_URL": "http://b"}).url == "http://b"
            assert find_endpoint({"SCNS_URL": f"unix://{place}"}) == Endpoint(f"unix://{place}", None, "SCNS_URL")
            written(tmp_path / "home/.config/scns-conductor")
            assert find_endpoint(home).token == "文件的令牌"
            system_file.unlink()
            (tmp_path / "home/.config/scns-conductor/client.json").unlink()
            assert find_endpoint(home).url == f"unix://{place}"
            with pytest.raises(EndpointUnknown):
                find_endpoint({**home, "SCNS_DATA_DIR": str(tmp_path / "none")})
    finally:
        shutil.rmtree(place.parent)
