"""python -m scns_conductor.services.pam_check：问一次 PAM，就结束。

PAM 的模块是别人的共享库，会等、会崩、不一定能在线程里用：一次登录一个进程，API 不受牵连，口令也随它而去。
标准输入是 {service, user, password, address}，标准输出是 {result, user, uid}。
"""

import ctypes
import json
import pwd
import sys
from ctypes.util import find_library
from typing import Required, TypedDict

# security/_pam_types.h、pam_appl.h。
PAM_DISALLOW_NULL_AUTHTOK = 0x1
PAM_SILENT = 0x8000
PAM_USER, PAM_RHOST, PAM_FAIL_DELAY = 2, 4, 10
PAM_SUCCESS, PAM_NEW_AUTHTOK_REQD = 0, 12
# 口令不对、没有这个用户、试得太多、权限不够：一样的回答。别的是 PAM 自己不行。
_REFUSED = {6, 7, 8, 10, 11}

_DELAY = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
# 失败之后等多久由 API 管（各种失败一样久），不在这里等。
_no_delay = _DELAY(lambda *_: None)


class PamAnswer(TypedDict, total=False):
    """result：ok、refused、password_expired、account_refused、broken。"""

    result: Required[str]
    known: bool
    """系统里有这个用户"""
    why: str
    """broken 时：PAM 怎么说"""
    user: str
    """ok 时：系统里的写法"""
    uid: int


def check(service: str, user: str, password: str, address: str) -> PamAnswer:
    """问一次。"""
    import pamela

    # 这里要留着它：PAM 记的是它的地址。
    conversation = pamela.new_simple_password_conv((password,), "utf-8")
    handle = pamela.pam_start(service, user, conv_func=conversation)
    handle.set_item(PAM_RHOST, address)
    set_item = ctypes.CDLL(find_library("pam")).pam_set_item
    set_item.argtypes = [pamela.PamHandle, ctypes.c_int, ctypes.c_void_p]
    set_item(handle, PAM_FAIL_DELAY, ctypes.cast(_no_delay, ctypes.c_void_p))
    # 没有口令的账号不算有口令。
    code = pamela.PAM_AUTHENTICATE(handle, PAM_DISALLOW_NULL_AUTHTOK | PAM_SILENT)
    if code == PAM_SUCCESS:
        code = pamela.PAM_ACCT_MGMT(handle, PAM_DISALLOW_NULL_AUTHTOK | PAM_SILENT)
        if code != PAM_SUCCESS:
            # 口令是对的：为什么不许，可以告诉他。Debian 的 common-account 把过期也说成拒绝，分不得更细。
            return {"result": "password_expired" if code == PAM_NEW_AUTHTOK_REQD else "account_refused", "known": True}
    if code in _REFUSED:
        return {"result": "refused", "known": _account(user) is not None}
    if code != PAM_SUCCESS:
        return {"result": "broken", "why": pamela.pam_strerror(handle, code)}
    account = _account(handle.get_item(PAM_USER) or user)
    return (
        {"result": "refused"} if account is None else {"result": "ok", "user": account.pw_name, "uid": account.pw_uid}
    )


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


if __name__ == "__main__":
    print(json.dumps(check(**json.load(sys.stdin))))
