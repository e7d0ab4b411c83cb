#!/usr/bin/env python3
"""错误各有类型：写错的、没有的、连不上的，分得清。"""

from scns_conductor.client import Client, Unreachable
from scns_conductor.client.problems import Invalid, NotFound

with Client() as client:
    try:
        client.submit({"memory_per_node": "很多"}, "true\n")
    except Invalid as error:
        print("写错了：", error.code, [each["field"] for each in error.errors])
    try:
        client.job(987654321)
    except NotFound as error:
        print("没有：", error.code)

try:
    Client("http://127.0.0.1:1", "令牌不会送出去".encode().hex()).nodes()
except Unreachable as error:
    print("连不上：", type(error).__name__)
