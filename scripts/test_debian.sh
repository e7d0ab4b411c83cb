#!/bin/sh
# 在另一版 Debian 里跑测试：它自己的 Python 与 PostgreSQL（make test-debian SUITE=trixie）。
# 要 root 与 mmdebstrap；根目录留在 /var/tmp/scns-debian/SUITE，第二次就快了，不要了整个删掉。
set -eu

suite=$1
shift
root=${DEBIAN_ROOT:-/var/tmp/scns-debian}/$suite
packages=python3,python3-venv,make,gcc,libc6-dev,procps,util-linux,iproute2,iptables,openssl,faketime,passwd,busybox-static
packages=$packages,ca-certificates,locales,git,openssh-client,postgresql,crun,libpmi2-0,pgbouncer

if [ ! -e "$root/.made" ]; then
  echo "造 Debian $suite 的根目录（几分钟）……"
  rm -rf "$root"
  mkdir -p "$(dirname "$root")"
  # 只要程序：测试自己起私有的服务器。
  # 只用来跑测试：镜像旧了几天（还没有定版的那些有期限）也行。
  nice mmdebstrap --quiet --variant=apt --mode=root --include="$packages" \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --essential-hook='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
    "$suite" "$root"
  touch "$root/.made"
fi

# 挂载只在这里面有，结束了就没有了。
export root
# shellcheck disable=SC2016
exec unshare --mount --propagation private sh -eu -c '
  # 根是一个挂载点，里面的 unshare 才改得了传播。
  mount --bind "$root" "$root"
  for place in proc sys dev; do mount --rbind "/$place" "$root/$place"; done
  mkdir -p "$root/source"
  mount --bind "$PWD" "$root/source"
  # 本机用的镜像与证书。
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || { touch "$root$file"; mount --bind "$file" "$root$file"; }
  done
  exec chroot "$root" env -u PIP_FIND_LINKS HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    make -C /source test PYTHON=/usr/bin/python3 VENV=/venv WORKERS="${WORKERS:-0}" ARGS="$*"
' sh "$@"
