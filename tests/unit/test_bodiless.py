"""只有会改变什么、又没有请求体的端点看请求体；别的不为此花什么。它拒绝什么在 test_api_bad_input.py。"""

from fastapi import APIRouter, Body

from scns_conductor.api.bodiless import bodies_checked


def test_only_what_changes_something_without_a_body_is_checked() -> None:
    router = APIRouter()

    @router.get("/read")
    @router.post("/submit")
    async def with_body(_: dict[str, str] = Body({})) -> None: ...

    @router.post("/batch", openapi_extra={"requestBody": {}})
    @router.get("/list")
    @router.post("/hold")
    @router.delete("/token")
    async def without() -> None: ...

    for _ in range(2):
        assert bodies_checked(router) is router
    checked = {route.path: len(route.dependencies) for route in router.routes}  # type: ignore[attr-defined]
    assert checked == {"/read": 0, "/submit": 0, "/batch": 0, "/list": 0, "/hold": 1, "/token": 1}
