"""sacctmgr add|delete coordinator：谁管哪些账户。"""

from scns_conductor.client import JsonClient
from scns_conductor.slurm.accounting.sacctmgr_changes import Planned
from scns_conductor.slurm.accounting.sacctmgr_words import Request
from scns_conductor.slurm.session import Fatal


def add_coordinator(client: JsonClient, request: Request) -> Planned:
    """让这些用户作这些账户（连同各级下级）的协调人。"""
    users, accounts = _named(client, request)
    if not users:
        raise Fatal(" You need to specify a user list here.", prefix=None)
    if not accounts:
        raise Fatal(" You need to specify a account list here.", prefix=None)
    planned = Planned([" Adding Coordinator User(s)", *(f"  {name}" for name in users)])
    planned.lines += [" To Account(s) and all sub-accounts", *(f"  {name}" for name in accounts)]
    for account in accounts:
        planned.actions += [lambda a=account, u=user: client.add_coordinator(a, u) for user in users]  # type: ignore[misc]
    return planned


def delete_coordinator(client: JsonClient, request: Request) -> Planned:
    """不再是协调人；没有写账户是他管的全部，没有写用户是这些账户的全部。"""
    users, accounts = _named(client, request)
    if not users and not accounts:
        raise Fatal(" You need to specify a user list or account list here.", prefix=None)
    pairs = [
        (row["name"], user)
        for row in client.accounts()
        for user in row["coordinators"]
        if (not accounts or row["name"] in accounts) and (not users or user in users)
    ]
    if not pairs:
        print(" Nothing removed")
        raise Fatal(prefix=None)
    planned = Planned([" Removing Coordinators with user name", *(f"  {user}" for _, user in pairs)])
    planned.lines += [
        " From Account(s)",
        *(f"  {account}" for account in dict.fromkeys(account for account, _ in pairs)),
    ]
    planned.actions += [lambda a=account, u=user: client.remove_coordinator(a, u) for account, user in pairs]  # type: ignore[misc]
    return planned


def _named(client: JsonClient, request: Request) -> tuple[list[str], list[str]]:
    """写了的用户与账户；没有的照 sacctmgr 拒绝。"""
    users = [*request.names, *request.where.get("name", [])]
    accounts = request.where.get("account", [])
    known = {row["name"] for row in client.users()}
    for name in users:
        if name not in known:
            raise Fatal(f" This user '{name}' doesn't exist.", prefix=None)
    known = {row["name"] for row in client.accounts()}
    for name in accounts:
        if name not in known:
            raise Fatal(f" This account '{name}' doesn't exist.", prefix=None)
    return users, accounts


PLANS = {("add", "coordinator"): add_coordinator, ("delete", "coordinator"): delete_coordinator}
