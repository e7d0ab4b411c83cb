#!/usr/bin/env bash
# 造 .deb：make deb。包里是轮子，安装时用系统的 python3 在 /opt/scns 里离线建虚拟环境；单元、用户、目录由 scns setup 建。
# 用法：build_deb.sh 输出目录 [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?要输出目录}")
python=${2:-python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
architecture=$(dpkg --print-architecture)
wheels=$work/root/usr/share/scns-conductor/wheels
mkdir -p "$wheels" "$work/root/DEBIAN" "$out"

"$python" -m pip wheel --quiet --disable-pip-version-check -c constraints.txt -w "$wheels" .
# 旧的 3.11.x 才要的（redis 的依赖）：造包的 Python 也许不要它，装包的要。
"$python" -m pip download --quiet --disable-pip-version-check --no-deps -c constraints.txt -d "$wheels" async-timeout
minor=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
install -D -m 0644 docs/deployment.md "$work/root/usr/share/doc/scns-conductor/deployment.md"
install -D -m 0644 LICENSE "$work/root/usr/share/doc/scns-conductor/copyright"

size=$(du -sk "$work/root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
  -e "s/@PYTHON@/$minor/" packaging/debian/control >"$work/root/DEBIAN/control"
for script in postinst prerm postrm; do
  install -m 0755 "packaging/debian/$script" "$work/root/DEBIAN/$script"
done
target=$out/scns-conductor_${version}_${architecture}.deb
dpkg-deb --root-owner-group --build "$work/root" "$target" >/dev/null
echo "$target"
