#!/usr/bin/env bash
# debs.sh SUITE ROOT PACKAGE...: unpack Debian packages, with all they depend on, into ROOT.
#
# The machine's own apt resolves, verifies and downloads, with private state: no root, nothing of the system is written.
#   SKIP  (environment) regular expression of package names to leave out
set -euo pipefail
suite=$1 root=$2
shift 2
command -v apt-get >/dev/null || {
  echo "debs.sh: no apt here; put $* on the PATH and run scripts/setup again" >&2
  exit 1
}
state=$(dirname "$root")/apt-${root##*/}
mkdir -p "$state"/{state/lists/partial,cache/archives/partial,debs} "$root"

# indextargets answers only once the machine has fetched lists; before that the source files are read.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Component: main' 2>/dev/null | grep -v security | head -1 || true)
if [ -z "$mirror" ]; then
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    grep -v '^ *#' | grep -oE '(https?|file|mirror\+[a-z]+):/[^ ]+' | grep -i debian | grep -v security | head -1 || true)
fi
[ -n "$mirror" ] || {
  echo "debs.sh: no Debian mirror in /etc/apt; put $* on the PATH and run scripts/setup again" >&2
  exit 1
}
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/sources.list"
: >"$state/state/status" # nothing counts as installed: apt works out everything that is needed
cat >"$state/apt.conf" <<CONF
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$state/state";
Dir::State::status "$state/state/status";
Dir::Cache "$state/cache";
Debug::NoLocking "1";
APT::Install-Recommends "0";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
export APT_CONFIG=$state/apt.conf # read after /etc/apt/apt.conf.d, so it wins
[ -n "$(find "$state/state/lists" -maxdepth 1 -name '*Packages*' -mmin -600)" ] || apt-get -qq update
wanted=$(apt-get -qq -s install "$@" | sed -n 's/^Inst \([^ ]*\) .*/\1/p' | sort -u)
[ -z "${SKIP:-}" ] || wanted=$(grep -vxE "$SKIP" <<<"$wanted")
cd "$state/debs"
# shellcheck disable=SC2086 # one word a package
apt-get -qq download $wanted

# Debian 12 ships files below /lib: with the links made first tar keeps them (dpkg -x would replace them by folders).
for folder in lib lib64 bin sbin; do
  [ -e "$root/$folder" ] || { mkdir -p "$root/usr/$folder" && ln -s "usr/$folder" "$root/$folder"; }
done
for package in $wanted; do
  deb=$(find . -name "${package%%:*}_*.deb" -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2)
  dpkg --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --no-same-owner -C "$root"
done
# Some libraries come without their SONAME link; postinst would have run ldconfig.
for folder in "$root"/usr/lib/*-linux-gnu* "$root"/usr/lib; do
  [ ! -d "$folder" ] || /sbin/ldconfig -n "$folder" 2>/dev/null || true
done
rm -rf "$state"
