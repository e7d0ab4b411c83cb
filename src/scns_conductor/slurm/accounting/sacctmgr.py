"""sacctmgr：账户、用户、关联与 QOS（sacctmgr(1)）。增删改之前要确认，-i 不问。"""

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from scns_conductor.client import ClientError, JsonClient
from scns_conductor.slurm.accounting import sacctmgr_changes as changes
from scns_conductor.slurm.accounting import sacctmgr_columns as columns
from scns_conductor.slurm.accounting import sacctmgr_coordinators as coordinators
from scns_conductor.slurm.accounting import sacctmgr_more as more
from scns_conductor.slurm.accounting.sacctmgr_words import (
    ENTITIES,
    UNSUPPORTED_ENTITIES,
    Request,
    lowered,
    match,
    own_cluster,
    parse_request,
)
from scns_conductor.slurm.parse.line_mode import prompted_lines
from scns_conductor.slurm.parse.options import Parsed, flags, hints, option
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit, slurm_error, told
from scns_conductor.slurm.shapes.spoken import release, spoken
from scns_conductor.slurm.table.job_tres import TRES_IDS
from scns_conductor.slurm.table.job_values import cluster_name
from scns_conductor.slurm.table.json_answer import structured

OPTIONS = [
    *flags("-h --help", "-i --immediate", "-n --noheader", "-p --parsable", "-P --parsable2"),
    *flags("-Q --quiet", "-r --readonly", "-s --associations", "-V --version", "--usage"),
    *flags("-v --verbose"),
    *hints(flags("-o --oneliner")),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
_VERBS = {
    "add": "add", "create": "add", "show": "show", "list": "show", "modify": "modify", "update": "modify",
    "delete": "delete", "remove": "delete",
}  # fmt: skip
_FILES = ("dump", "load")
_UNSUPPORTED_VERBS = ("clear", "reconfigure", "shutdown")
# where 里的 cluster= 管得着的。
_OF_CLUSTER = frozenset({"account", "user", "association", "cluster", "event", "reservation", "wckey", "transaction"})
_LISTED = (
    'Input line must include "Account", "Association", "Cluster", "Configuration",',
    '"Event", "Federation", "Problem", "QOS", "Resource", "Reservation",',
    '"RunAwayJobs", "Stats", "Transaction", "TRES", "User", or "WCKey"',
)


_CHANGED = ('Input line must include "Account", "Cluster", "Coordinator", "Federation", "QOS", "Resource", or "User"',)


def main(words: list[str]) -> int:
    """一条命令；没有命令时从标准输入一行一条。"""
    parsed = parse_or_exit("sacctmgr", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("sacctmgr [<OPTION>] [<COMMAND>]")
        return 0
    with connect() as client:
        if parsed.arguments:
            return _command(client, parsed, parsed.arguments)
        return _interactive(client, parsed)


def _interactive(client: JsonClient, parsed: Parsed) -> int:
    for line in prompted_lines("sacctmgr"):
        words = shlex.split(line)
        if words and match(words[0], ("exit", "quit")) is not None:
            return 0
        if words:
            try:
                _command(client, parsed, words)
            except Fatal as error:
                told("sacctmgr", error)
    return 0


def _command(client: JsonClient, parsed: Parsed, words: Sequence[str]) -> int:
    verb_word = match(words[0], (*_VERBS, *_FILES, *_UNSUPPORTED_VERBS, "archive", "version", "ping"))
    if verb_word == "version":
        print(f"slurm-wlm {release()}" if spoken() == "22.05" else f"slurm {release()}")
        return 0
    if verb_word == "ping":
        return _ping(client)
    if verb_word is None:
        raise Fatal(f"invalid keyword: {words[0]}", prefix=None)
    if verb_word in _UNSUPPORTED_VERBS:
        raise Fatal(f"{verb_word} is not supported by this system")
    if verb_word == "archive":
        return _archive(parsed, words[1:])
    if verb_word in _FILES:
        return _file(client, parsed, verb_word, list(words[1:]))
    verb = _VERBS[verb_word]
    entity = _entity(verb_word, words[1] if len(words) > 1 else "")
    request = parse_request(entity, words[2:], verb=verb)
    if any(letter.isupper() for word in words[2:] for letter in word.partition("=")[2] or word):
        known = [row["name"] for row in (*client.accounts(), *client.users(), *client.qos())]
        request = lowered(entity, request, known)
    if verb == "show" and entity != "coordinator":
        return _show(client, parsed, entity, request)
    if "readonly" in parsed:
        raise Fatal("Can't run this command in readonly mode.", prefix=None)
    plans = {**changes.PLANS, **coordinators.PLANS}
    if (verb, entity) not in plans:
        raise Fatal(f"{verb_word} {entity} is not supported by this system")
    planned = plans[verb, entity](client, request)
    return _commit(parsed, planned)


def _file(client: JsonClient, parsed: Parsed, verb: str, words: list[str]) -> int:
    if verb == "dump":
        return more.dump(client, words)
    if "readonly" in parsed:
        raise Fatal("Can't run this command in readonly mode.", prefix=None)
    planned = more.load(client, words)
    return _commit(parsed, planned) if planned.actions else 0


def _archive(parsed: Parsed, words: Sequence[str]) -> int:
    if "readonly" in parsed:
        raise Fatal("Can't run this command in readonly mode.", prefix=None)
    from scns_conductor.slurm.accounting.sacctmgr_archive import archive

    return archive(words, lambda question: "immediate" in parsed or _agreed(question))


def _ping(client: JsonClient) -> int:
    """记账在不在：答得出就在。"""
    client.qos()
    print(f"slurmdbd(primary) at {client.url.partition('://')[2].partition(':')[0]} is UP")
    return 0


def _entity(verb: str, word: str) -> str:
    name = match(word, (*ENTITIES, *UNSUPPORTED_ENTITIES)) if word else None
    if name is None:
        lines = _LISTED if verb in ("show", "list") else _CHANGED
        raise Fatal(f"No valid entity in {'list' if verb == 'show' else verb} command", *lines, prefix=None)
    if name in UNSUPPORTED_ENTITIES:
        raise Fatal(f"{verb} {name} is not supported by this system")
    return ENTITIES[name]


def _commit(parsed: Parsed, planned: changes.Planned) -> int:
    """先说要做什么；-i 直接做，否则问一句。"""
    quiet = "quiet" in parsed

    def tell() -> None:
        if not quiet:
            print("\n".join(planned.lines))

    def act() -> None:
        for action in planned.actions:
            try:
                action()
            except ClientError as error:
                raise Fatal(f" Error with request: {slurm_error(error)}", prefix=None) from error

    if "immediate" in parsed:
        act()
        tell()
        return planned.code
    tell()
    if not _agreed("Would you like to commit changes? (You have 30 seconds to decide)\n(N/y): "):
        print(" Changes Discarded")
        return 0
    act()
    return planned.code


def _agreed(question: str) -> bool:
    """问一句；没有答 y 就是不。"""
    print(question, end="", flush=True)
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():
        print()
    return answer.strip().lower().startswith("y")


# ---- show ----


def _show(client: JsonClient, parsed: Parsed, entity: str, request: Request) -> int:
    if entity in more.TEXTS:
        more.TEXTS[entity](client)
        return 0
    if structured(parsed) and entity not in more.TABLES:
        from scns_conductor.slurm.accounting.sacctmgr_json import write

        return write(client, parsed, entity, request)
    with_associations = "associations" in parsed or "withassoc" in request.flags
    show: dict[str, Callable[[JsonClient, Request, bool], tuple[str, Any, list[dict[str, Any]]]]] = {
        "account": _accounts,
        "user": _users,
        "association": _associations,
        "qos": _qos,
        "tres": _tres,
        "cluster": _clusters,
        **more.TABLES,
    }
    if entity not in show:
        raise Fatal(f"show {entity} is not supported by this system")
    default, known, rows = show[entity](client, request, with_associations)
    if "withcoord" in request.flags and "coordinators" in known:
        default += ",coordinators"
    if entity in _OF_CLUSTER and not own_cluster(request.where.get("cluster", ())):
        rows = []
    tree = entity == "association" and "tree" in request.flags
    chosen = columns.chosen_fields(request.form or default, known)
    if tree:
        chosen = [_tree_field(each) if each.title == "Account" else each for each in chosen]
    plain = "parsable" in parsed or "parsable2" in parsed
    lines = columns.lines_of(
        chosen, rows, header="noheader" not in parsed, parsable=plain, trailing="parsable2" not in parsed
    )
    for line in lines:
        print(line)
    return 0


def _tree_field(field: columns.Field) -> columns.Field:
    width = -20 if field.width == 10 else field.width
    return columns.Field(field.title, width, lambda row: " " * row["depth"] + field.value(row))


def _wanted(request: Request, row: dict[str, Any], names: dict[str, str]) -> bool:
    """where 的各条件；names 是条件 -> 行的字段。"""
    for key, allowed in request.where.items():
        if key == "cluster":
            continue
        if str(row.get(names.get(key, key)) or "") not in allowed:
            return False
    return True


def _accounts(client: JsonClient, request: Request, with_associations: bool) -> tuple[str, Any, list[dict[str, Any]]]:
    wanted = [*request.names, *request.where.pop("name", [])]
    rows = [row for row in client.accounts() if (not wanted or row["name"] in wanted) and _wanted(request, row, {})]
    if not with_associations:
        return columns.ACCOUNT_FORMAT, columns.ACCOUNT, rows
    found = client.associations()
    joined = [
        {**row, **each, "cluster": cluster_name()} for row in rows for each in found if each["account"] == row["name"]
    ]
    return columns.ACCOUNT_WITH_ASSOCIATIONS, columns.ACCOUNT, joined


def _users(client: JsonClient, request: Request, with_associations: bool) -> tuple[str, Any, list[dict[str, Any]]]:
    wanted = [*request.names, *request.where.pop("name", [])]
    accounts, partitions = request.where.pop("account", []), request.where.pop("partition", [])
    rows = [row for row in client.users() if (not wanted or row["name"] in wanted) and _wanted(request, row, {})]
    named = request.form and set(request.form.lower().replace("%", ",").split(",")) & {
        "account", "partition", "share", "fairshare", "qos", "defaultqos", "cluster", "maxjobs",
    }  # fmt: skip
    if not with_associations and not named and not accounts:
        return columns.USER_FORMAT, columns.USER, rows
    found = [
        each
        for each in client.associations()
        if each["user_name"]
        and (not accounts or each["account"] in accounts)
        and (not partitions or each["partition"] in partitions)
    ]
    joined = [
        {**row, **each, "cluster": cluster_name()} for row in rows for each in found if each["user_name"] == row["name"]
    ]
    if not with_associations and not named:
        users = {each["name"] for each in joined}
        return columns.USER_FORMAT, columns.USER, [row for row in rows if row["name"] in users]
    default = columns.USER_WITH_ASSOCIATIONS if with_associations else columns.USER_FORMAT
    return default, columns.USER, joined


def _associations(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, list[dict[str, Any]]]:
    parents = {row["name"]: row["parent"] for row in client.accounts()}
    found = client.associations()
    names = {"user": "user_name", "parent": "parent_account"}
    if "withsubaccounts" in request.flags and "account" in request.where:
        above = set(request.where["account"])
        request.where["account"] = [name for name in parents if above & set(_chain(parents, name))]
    rows = []
    for name, depth in _walk(parents):
        own = [each for each in found if each["account"] == name]
        own.sort(key=lambda each: (each["user_name"], each["partition"] == "", each["partition"]))
        rows += [
            {**each, "cluster": cluster_name(), "depth": depth + (1 if each["user_name"] else 0)}
            for each in own
            if _wanted(request, each, names)
        ]
    return columns.ASSOCIATION_FORMAT, columns.ASSOCIATION, rows


def _chain(parents: dict[str, str | None], name: str | None) -> list[str]:
    found: list[str] = []
    while name is not None and name not in found:
        found.append(name)
        name = parents.get(name)
    return found


def _walk(parents: dict[str, str | None]) -> list[tuple[str, int]]:
    """账户树，深度优先。"""
    children: dict[str | None, list[str]] = {}
    for name, parent in sorted(parents.items()):
        children.setdefault(parent, []).append(name)
    found: list[tuple[str, int]] = []
    waiting = [(name, 0) for name in reversed(children.get(None, []))]
    while waiting:
        name, depth = waiting.pop()
        found.append((name, depth))
        waiting += [(child, depth + 1) for child in reversed(children.get(name, []))]
    return found


def _qos(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, list[dict[str, Any]]]:
    wanted = [*request.names, *request.where.pop("name", [])]
    rows = [row for row in client.qos() if not wanted or row["name"] in wanted]
    rows.sort(key=lambda row: (row["name"] != "normal", row["name"]))
    return columns.QOS_FORMAT, columns.QOS, rows


def _tres(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, list[dict[str, Any]]]:
    names = {name for node in client.nodes() for name in node["gres"]}
    names |= {name.split(":")[0] for name in names}
    rows = [{"type": name, "id": TRES_IDS[name]} for name in ("cpu", "mem", "energy", "node")]
    rows += [{"type": "gres", "name": name, "id": 1001 + at} for at, name in enumerate(sorted(names))]
    kinds = request.where.get("type")
    return columns.TRES_FORMAT, columns.TRES, [row for row in rows if not kinds or row["type"] in kinds]


def _clusters(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, list[dict[str, Any]]]:
    if not own_cluster([*request.names, *request.where.get("name", [])]):
        return columns.CLUSTER_FORMAT, columns.CLUSTER, []
    root = next(each for each in client.associations("root", "") if not each["user_name"])
    host, _, port = client.url.partition("://")[2].partition(":")
    row = {**root, "cluster": cluster_name(), "control_host": host, "control_port": port.rstrip("/")}
    return columns.CLUSTER_FORMAT, columns.CLUSTER, [row]
