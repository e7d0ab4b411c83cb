"""看板的节点图画五千个节点要多久：造一个系统、五千行节点（没有代理），真的浏览器里量第一次画出来与指针移动的每一帧。

python benchmarks/web_nodes.py [--nodes 5000]；要 web 与 webtest 两个附加组件、Debian 的 chromium。
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import psycopg
from playwright.sync_api import sync_playwright

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests" / "web")]

from test_web_screenshots import FIELD, database_url  # noqa: E402
from visits import web_url_of  # noqa: E402

from running_system import start_system  # noqa: E402
from scns_conductor.web.login_links import create_login_link  # noqa: E402

# 指针走过整张图：每一帧两次 requestAnimationFrame 之间的时间（毫秒）。
HOVER = """
async (moves) => {
  const canvas = document.querySelector(".node-map canvas"), box = canvas.getBoundingClientRect(), found = [];
  for (let step = 0; step < moves; step++) {
    const began = performance.now();
    canvas.dispatchEvent(new PointerEvent("pointermove", {
      clientX: box.left + (step * 37) % box.width, clientY: box.top + (step * 11) % box.height, bubbles: true }));
    await new Promise(requestAnimationFrame);
    found.push(performance.now() - began);
  }
  return found.sort((a, b) => a - b);
}
"""


def main() -> None:
    """量一次，打印一行 JSON。"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    wanted = parser.parse_args().nodes
    with tempfile.TemporaryDirectory() as folder, start_system(Path(folder) / "s", "--web", "--cpus", "2") as system:
        with psycopg.connect(database_url(system)) as connection:
            connection.execute(FIELD.replace("180", str(wanted // 2)).replace("lpad(i::text, 3", "lpad(i::text, 4"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.goto(create_login_link(system.data_dir, web_url_of(system), system.token))
            page.goto(web_url_of(system) + "/nodes")
            page.locator(".node-map canvas").wait_for()
            # 忙的机器上第一次连接会慢，框架会重新载入一次：等到真的画好了再量。
            page.wait_for_function(f"document.querySelector('.chip b').textContent.replace(/,/g, '') >= {wanted}")
            opened = page.evaluate("performance.now()")
            frames = page.evaluate(HOVER, 200)
            long_tasks = page.evaluate(
                "new Promise((done) => new PerformanceObserver((list) =>"
                " done(list.getEntries().map((each) => Math.round(each.duration))))"
                ".observe({ type: 'longtask', buffered: true }))"
            )
            browser.close()
    print(
        json.dumps(
            {
                "nodes": wanted,
                "opened_ms": round(opened),
                "frame_median_ms": round(frames[100], 1),
                "frame_p95_ms": round(frames[190], 1),
                "longest_task_ms": max(long_tasks, default=0),
            }
        )
    )


if __name__ == "__main__":
    main()
