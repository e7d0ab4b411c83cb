#!/usr/bin/env bash
# 造 .deb：make deb。包里是装好、编译好的全部 Python 包，安装时只建虚拟环境，不用 pip、不编译、不联网；
# 单元、用户、目录由 scns setup 建。用法：build_deb.sh 输出目录 [PYTHON]；包只给与 PYTHON 同一个次版本的机器（Depends）。
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?要输出目录}")
python=${2:-python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
architecture=$(dpkg --print-architecture)
share=$work/root/usr/share/scns-conductor
packages=$share/site-packages
mkdir -p "$share/bin" "$work/root/DEBIAN" "$out"

install_packages() { "$python" -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt --target "$packages" "$@"; }
install_packages '.[server,pam,oidc]'
# 旧的 3.11.x 才要的（redis 的依赖）：造包的 Python 也许不要它，装包的要。
[ -d "$packages/async_timeout" ] || install_packages --no-deps async-timeout
for command in scns scns-slurm; do
  sed '1s|.*|#!/opt/scns/bin/python3|' "$packages/bin/$command" >"$share/bin/$command"
  chmod 0755 "$share/bin/$command"
done
rm -rf "$packages/bin"
minor=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
next=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor + 1}")')
# 装好的不会再改：不必每次核对源文件的时刻。
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash \
  -s "$packages" -p "/opt/scns/lib/python$minor/site-packages" "$packages"
install -D -m 0644 docs/deployment.md "$work/root/usr/share/doc/scns-conductor/deployment.md"
install -D -m 0644 LICENSE "$work/root/usr/share/doc/scns-conductor/copyright"

size=$(du -sk "$work/root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
  -e "s/@PYTHON@/$minor/" -e "s/@NEXT_PYTHON@/$next/" packaging/debian/control >"$work/root/DEBIAN/control"
for script in postinst prerm postrm; do
  install -m 0755 "packaging/debian/$script" "$work/root/DEBIAN/$script"
done
target=$out/scns-conductor_${version}_${architecture}.deb
dpkg-deb --root-owner-group -Zxz -z1 --build "$work/root" "$work/made.deb" >/dev/null
# 换上整个的：同时在读旧的那个的人不受影响。
cp "$work/made.deb" "$target.new"
mv "$target.new" "$target"
echo "$target"
