"""deploy/ 里的 nginx 与 Caddy 样例：真的代理、真的证书，API 与看板都从 https 用；只换域名、端口与证书的位置。"""

import base64
import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from running_system import RunningSystem, free_port, wait_until
from scns_conductor.web.login_links import create_login_link

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """一个在跑的代理；API 是 https://localhost:port，看板是 https://web.localhost:port。"""

    port: int
    authority: Path

    def connect(self, name: str = "localhost") -> HTTPSConnection:
        """连过去，核对证书。"""
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = HTTPSConnection(name, self.port, context=context, timeout=30)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sock = context.wrap_socket(plain, server_hostname=name)
        return connection


@pytest.fixture(scope="module")
def system(watched_system: RunningSystem) -> RunningSystem:
    return watched_system


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """自己签的一张，给 localhost 与 web.localhost。"""
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=DNS:localhost,DNS:web.localhost,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", names, "-keyout", folder / "privkey.pem",
         "-out", folder / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def _sample(text: str, system: RunningSystem, certificate: Path, port: int) -> str:
    ready = json.loads(system.data_dir.with_name(f"{system.data_dir.name}.ready.json").read_text())
    for old, new in (
        ("/etc/ssl/scns", str(certificate)),
        ("127.0.0.1:6820", urlsplit(system.url).netloc),
        ("127.0.0.1:6821", urlsplit(ready["web"]).netloc),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, system: RunningSystem, certificate: Path, tmp_path: Path) -> Iterator[Proxy]:
    port = free_port()
    if request.param == "nginx":
        site = _sample((DEPLOY / "nginx/scns-conductor.conf").read_text(), system, certificate, port)
        site = site.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace("scns.example.org", "localhost")
        (tmp_path / "site.conf").write_text(site)
        (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path))
        command = ["nginx", "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
    else:
        site = _sample((DEPLOY / "caddy/Caddyfile").read_text(), system, certificate, port)
        site = site.replace("scns.example.org", f"localhost:{port}")
        (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
        command = ["caddy", "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    log = tmp_path / "proxy.log"
    with log.open("wb") as output:
        home = {"HOME": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=home)
    try:

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, what="代理开始监听")
        yield Proxy(port, certificate / "fullchain.pem")
    finally:
        # 有没做完的请求时 Caddy 会等它们：不等。
        process.kill()
        process.wait(30)


def test_commands_work_over_https(system: RunningSystem, proxy: Proxy) -> None:
    environment = {
        **system.environment,
        "SCNS_URL": f"https://localhost:{proxy.port}",
        "SSL_CERT_FILE": str(proxy.authority),
    }
    scns = str(Path(sys.executable).with_name("scns"))
    done = subprocess.run([scns, "submit", "--wait", "--wrap", "echo 经过代理"], env=environment, capture_output=True,
                          text=True, check=False, cwd=system.data_dir)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "经过代理\n"), done.stderr
    # 不认得的证书不连：一行，说的是证书。
    stranger = {**environment, "SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/nonexistent"}
    refused = subprocess.run([scns, "jobs"], env=stranger, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert re.search("certificate|证书", refused.stderr), refused.stderr


def test_live_output_is_not_held_back(system: RunningSystem, proxy: Proxy) -> None:
    job_id = system.submit("echo first; while [ ! -e go ]; do sleep 0.1; done; echo second")
    system.wait_state(job_id, "RUNNING")
    connection = proxy.connect()
    connection.request(
        "GET", f"/jobs/{job_id}/logs/stdout?follow=true", headers={"Authorization": f"Bearer {system.token}"}
    )
    answer = connection.getresponse()
    assert answer.status == 200

    def next_output() -> bytes:
        while line := answer.readline():
            if line.startswith(b"data: ") and b"base64" in line:
                return base64.b64decode(json.loads(line[6:])["base64"])
        raise AssertionError("流断了")

    # 第一段到了，作业才被允许写第二段：代理攒着的话这里会超时。
    assert next_output() == b"first\n"
    (system.data_dir / "go").touch()
    assert next_output() == b"second\n"
    (system.data_dir / "go").unlink()
    connection.close()


@pytest.mark.parametrize("proxy", ["nginx"], indirect=True)
def test_a_large_body_is_refused_before_it_is_sent(proxy: Proxy) -> None:
    """没有令牌的 1 GB：只送出请求头，API 的 401 就到了。"""
    connection = proxy.connect()
    connection.putrequest("POST", "/jobs/submit")
    connection.putheader("Content-Length", str(10**9))
    connection.putheader("Content-Type", "application/json")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (401, "token_missing")
    connection.close()


def test_the_dashboard_and_its_websocket(system: RunningSystem, proxy: Proxy) -> None:
    host = f"web.localhost:{proxy.port}"
    link = create_login_link(system.data_dir, f"https://{host}", system.token)
    connection = proxy.connect("web.localhost")
    connection.request("GET", link.removeprefix(f"https://{host}"), headers={"Host": host})
    answer = connection.getresponse()
    answer.read()
    cookie = answer.headers["Set-Cookie"]
    assert "secure" in cookie.lower()
    connection.close()
    upgrade = proxy.connect("web.localhost")
    upgrade.request(
        "GET",
        "/_nicegui_ws/socket.io/?EIO=4&transport=websocket",
        headers={
            "Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(), "Origin": f"https://{host}",
            "Cookie": cookie.split(";")[0],
        },
    )  # fmt: skip
    assert upgrade.sock is not None
    assert upgrade.sock.recv(12) == b"HTTP/1.1 101"
    upgrade.close()
