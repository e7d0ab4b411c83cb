"""sshare：公平份额——各账户、各用户的份额、用量与因子（sshare(1)）。"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.client.token_claims import user_name_of
from scns_conductor.slurm.parse.options import Parsed, flags, hints, option, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.table.job_values import require_own_cluster
from scns_conductor.slurm.table.json_answer import asked_version, structured, write_answer

OPTIONS = [
    *flags("-a --all", "-e --helpformat", "-h --noheader", "-n", "-l --long", "-p --parsable"),
    *flags("-P --parsable2", "-U --Users", "-V --version", "--help", "--usage"),
    *flags("-v --verbose"),
    *hints(flags("-m --partition")),
    *values("-A --accounts", "-o --format", "-u --users", "-M --clusters"),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
# 名字 -> (表头, 宽度；负的左对齐)。
_COLUMNS = {
    "account": ("Account", -20), "user": ("User", 10), "rawshares": ("RawShares", 10), "normshares": ("NormShares", 11),
    "rawusage": ("RawUsage", 11), "normusage": ("NormUsage", 11), "effectvusage": ("EffectvUsage", 13),
    "fairshare": ("FairShare", 10), "levelfs": ("LevelFS", 10),
}  # fmt: skip
_DEFAULT = "account,user,rawshares,normshares,rawusage,effectvusage,fairshare"
_LONG = "account,user,rawshares,normshares,rawusage,normusage,effectvusage,fairshare,levelfs"


def main(words: list[str]) -> int:
    """缺省是自己与各账户，-a 是全部用户。"""
    parsed = parse_or_exit("sshare", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print("Usage: sshare [OPTION]")
        return 0
    if "helpformat" in parsed:
        titles = sorted(title for title, _ in _COLUMNS.values())
        for start in range(0, len(titles), 4):
            print(" ".join(f"{title:<17}" for title in titles[start : start + 4]))
        return 0
    require_own_cluster(parsed.last("clusters"))
    names = (parsed.last("format") or (_LONG if "long" in parsed else _DEFAULT)).lower().split(",")
    chosen: list[tuple[str, str, int]] = []
    for word in names:
        name, _, width = word.strip().partition("%")
        matching = [key for key in _COLUMNS if key.startswith(name)] if name else []
        if not matching:
            raise Fatal(f'Invalid field requested: "{name}"')
        header, default = _COLUMNS[matching[0]]
        chosen.append((matching[0], header, int(width) if width else default))
    with connect() as client:
        tree = client.share_tree()
        me = user_name_of(client)
    users = {word for text in parsed.every("users") for word in text.split(",")}
    accounts = {word for text in parsed.every("accounts") for word in text.split(",")}
    everyone = "all" in parsed or bool(users)
    if structured(parsed):
        return _write_json(parsed, tree, accounts, users or (set() if everyone else {me or ""}))
    rows = [
        row
        for row in _rows(tree)
        if (not accounts or row["account"].strip() in accounts)
        and (not row["user"] or (everyone and (not users or row["user"] in users)) or row["user"] == me)
        and not ("Users" in parsed and not row["user"])
    ]
    plain = "|" if "parsable" in parsed or "parsable2" in parsed else None
    titled = "noheader" not in parsed and "n" not in parsed
    for line in _lines(chosen, rows, plain=plain, trailing="parsable" in parsed, header=titled):
        print(line)
    return 0


def _write_json(parsed: Parsed, tree: Mapping[str, Any], accounts: set[str], users: set[str]) -> int:
    """users、accounts 是空的就是全部。"""
    from scns_conductor.slurm.shapes.statistics import shares_record

    record = shares_record(asked_version(parsed), tree)
    record["shares"] = [
        each
        for each in record["shares"]
        if (not accounts or each["name"] in accounts or each["parent"] in accounts)
        and ("USER" not in each["type"] or not users or each["name"] in users)
    ]
    return write_answer(parsed, "openapi_shares_resp", "shares", record)


def _rows(answer: Mapping[str, Any]) -> list[dict[str, str]]:
    """账户树，深度优先，逐级缩进一格：账户自己的一行，其中的用户，再是下级账户。"""
    children: dict[str | None, list[Mapping[str, Any]]] = defaultdict(list)
    for account in answer["accounts"]:
        children[account["parent"]].append(account)
    members: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for share in answer["shares"]:
        members[share["account"]].append(share)
    usage: dict[str | None, float] = defaultdict(float)
    for account in reversed(answer["accounts"]):
        own = sum(share["usage"] for share in members[account["name"]])
        usage[account["name"]] += own
        usage[account["parent"]] += usage[account["name"]]
    total = usage[None]
    rows = [_row("root", "", None, 1.0, total, 1.0 if total else 0.0, 1.0 if total else 0.0, None)]

    def below(name: str | None, depth: int) -> None:
        users = sorted(members[name], key=lambda each: str(each["user_name"])) if name is not None else []
        accounts = sorted(children[name], key=lambda each: str(each["name"]))
        count = sum(each["shares"] for each in (*users, *accounts))

        def line(label: str, user: str, each: Mapping[str, Any], used: float) -> None:
            norm = each["shares"] / count if count else 0.0
            effective = used / usage[name] if usage[name] else 0.0
            rows.append(
                _row(" " * depth + label, user, each["shares"], norm, used, used / total if total else 0.0, effective,
                     each.get("factor"))
            )  # fmt: skip

        for each in users:
            line(str(name), each["user_name"], each, each["usage"])
        for each in accounts:
            line(each["name"], "", each, usage[each["name"]])
            below(each["name"], depth + 1)

    below(None, 1)
    return rows


def _row(
    account: str, user: str, shares: int | None, norm_shares: float, usage: float, norm_usage: float, effective: float,
    factor: float | None,
) -> dict[str, str]:  # fmt: skip
    level = "inf" if not effective else f"{norm_shares / effective:.6f}"
    return {
        "account": account,
        "user": user,
        "rawshares": "" if shares is None else str(shares),
        "normshares": f"{norm_shares:.6f}",
        "rawusage": str(round(usage)),
        "normusage": f"{norm_usage:.6f}",
        "effectvusage": f"{effective:.6f}",
        "fairshare": "" if factor is None else f"{factor:.6f}",
        "levelfs": "" if account == "root" else level,
    }


def _lines(
    chosen: list[tuple[str, str, int]], rows: list[dict[str, str]], *, plain: str | None, trailing: bool, header: bool
) -> Iterable[str]:
    table = ([{name: title for name, title, _ in chosen}] if header else []) + rows
    for index, row in enumerate(table):
        if plain:
            yield plain.join(row[name] for name, _, _ in chosen) + (plain if trailing else "")
            continue
        yield "".join(_cell(row[name], width) + " " for name, _, width in chosen)
        if header and index == 0:
            yield "".join("-" * abs(width) + " " for _, _, width in chosen)


def _cell(text: str, width: int) -> str:
    size = abs(width)
    text = text[:size]
    return text.ljust(size) if width < 0 else text.rjust(size)
