"""python -m scns_conductor.local up|down：不经 scns 命令，直接启动或停止本机的系统。"""

from scns_conductor.local.up_command import local

if __name__ == "__main__":
    local()
