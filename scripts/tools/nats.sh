#!/usr/bin/env bash
# nats.sh ROOT: the NATS server of Debian testing in ROOT: a peer of the benchmarks. Needs PATCHELF.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
SKIP='adduser|passwd|debconf|init-system-helpers|libc-gconv-modules-extra' bash "$here/debs.sh" testing "$root" nats-server
bash "$here/elf.sh" "$root" "$root/usr/sbin/nats-server"
