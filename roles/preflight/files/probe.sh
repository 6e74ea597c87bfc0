#!/bin/sh
# What a machine has, as key=value lines. Reads only; needs nothing but a POSIX shell.
echo "probe=1"
echo "clock=$(date +%s)"
echo "user=$(id -u)"
# shellcheck source=/dev/null
[ -r /etc/os-release ] && . /etc/os-release && echo "system=${ID:-}" && echo "release=${VERSION_CODENAME:-}"
echo "python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
echo "cpus=$(getconf _NPROCESSORS_ONLN 2>/dev/null)"
echo "memory_kb=$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo)"
place=/var/lib/docker
while [ ! -d "$place" ]; do place=$(dirname "$place"); done
df -Pk "$place" | {
  read -r _
  read -r _ _ _ free _
  echo "disk_kb=$free"
}
for module in ${PREFLIGHT_MODULES:-}; do
  if [ -d "/sys/module/$module" ] ||
    grep -qs "/$module\.ko" "/lib/modules/$(uname -r)/modules.builtin" ||
    modprobe -n -q "$module" 2>/dev/null; then
    echo "module_$module=yes"
  else
    echo "module_$module=no"
  fi
done
if command -v docker >/dev/null; then
  docker version --format 'engine={{.Server.Version}}' 2>/dev/null || echo "engine=none"
fi
