"""scns web：在本机运行网页看板；--link 打印一个一次性的登录链接。"""

import importlib.util
import os
import sys

import click


def web_installed() -> bool:
    """装了看板要的库（附加组件 web）没有。"""
    return importlib.util.find_spec("nicegui") is not None


@click.command()
@click.option("--host", help="监听的地址，缺省 127.0.0.1（SCNS_WEB_HOST）")
@click.option("--port", type=click.IntRange(0, 65535), help="监听的端口，缺省 6821（SCNS_WEB_PORT）")
@click.option("--api-url", help="API 的地址，缺省是 SCNS_API_URL，再缺省是本机的 6820 端口")
@click.option("--link", is_flag=True, help="不启动：用自己的令牌造一个登录链接，一小时内可用一次")
def web(host: str | None, port: int | None, api_url: str | None, link: bool) -> None:
    """运行网页看板：浏览器里提交作业、看输出、问为什么、管集群。

    它是一个独立的进程，只经 API 做事，用来访者自己的令牌；只在本机监听，要给别人用请放在 HTTPS 的反向代理之后。
    """
    from scns_conductor.core.listener import bound_listener
    from scns_conductor.core.settings import load_settings

    if link:
        click.echo(_link())
        return
    if not web_installed():
        raise click.ClickException("没有装看板要的库；请执行 pip install 'scns-conductor[web]'")
    settings = load_settings()
    listener = bound_listener(host or settings.web_host, settings.web_port if port is None else port, "web")
    listener.set_inheritable(True)
    command = [
        sys.executable, "-m", "scns_conductor.web",
        "--fd", str(listener.fileno()),
        "--api-url", api_url or settings.api_url or f"http://127.0.0.1:{settings.api_port}",
        "--data-dir", str(settings.data_dir),
        "--cluster", settings.cluster_name,
        "--metrics", settings.web_metrics,
    ]  # fmt: skip
    # 换成看板自己的进程：信号直接到它，进程表里看得清。
    os.execv(sys.executable, command)


def _link() -> str:
    from scns_conductor.client.endpoint import find_endpoint
    from scns_conductor.core.settings import load_settings
    from scns_conductor.local.data_directory import DataDirectory, read_web_url
    from scns_conductor.web.login_links import create_login_link

    settings, endpoint = load_settings(), find_endpoint()
    if endpoint.token is None:
        raise click.ClickException("没有令牌；请设置 SCNS_TOKEN，或用 scns token 签发")
    url = read_web_url(DataDirectory(settings.data_dir)) or f"http://127.0.0.1:{settings.web_port}"
    try:
        return create_login_link(settings.data_dir, url, endpoint.token)
    except OSError as error:
        raise click.ClickException(
            f"写不了 {settings.data_dir}（{error.strerror}）；请用运行看板的用户，或在登录页粘贴令牌"
        ) from error
