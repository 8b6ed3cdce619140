#!/usr/bin/env bash
# image.sh ROOT: build the images as their Dockerfiles say, with Debian's buildah in ROOT; needs root, apt and patchelf.
#
# The Dockerfiles' own base needs a container registry; here it is Debian's Python instead. Afterwards `ROOT/buildah …`
# is buildah with a storage of its own, and the images are localhost/process-cosmos and localhost/process-cosmos-testbed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
certificates=/etc/ssl/certs
export PATCHELF=${PATCHELF:-$(command -v patchelf)}

bash "$here/debs.sh" testing "$root/tools" buildah netavark
bash "$here/elf.sh" "$root/tools" "$root/tools/usr/bin/buildah" "$root/tools/usr/lib/podman/netavark"
bash "$here/debs.sh" testing "$root/base" python3.14 python3-pip coreutils dash libc-bin ca-certificates
# Debian guards its own Python against pip; in an image nobody else uses it.
rm "$root/base/usr/lib/python3.14/EXTERNALLY-MANAGED"
# The bundle of certificates is made by a package's script, which unpacking does not run.
mkdir -p "$root/base$certificates"

# No more than this process may have: buildah asks for a million files.
files=$(ulimit -Hn) processes=$(ulimit -Hu)
[ "$processes" != unlimited ] || processes=-1
cat >"$root/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
helper_binaries_dir = ["$root/tools/usr/lib/podman"]
CONF
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$root/policy.json" # nothing is pulled
cat >"$root/buildah" <<COMMAND
#!/usr/bin/env bash
export CONTAINERS_CONF=$root/containers.conf BUILDAH_ISOLATION=chroot
command=\$1
shift
case \$command in from | bud | commit) set -- --signature-policy "$root/policy.json" "\$@" ;; esac
exec "$root/tools/usr/bin/buildah" --storage-driver vfs --root "$root/images" --runroot "$root/run" "\$command" "\$@"
COMMAND
chmod +x "$root/buildah"

base=$("$root/buildah" from scratch)
"$root/buildah" copy -q "$base" "$root/base" /
"$root/buildah" config --env PATH=/usr/local/bin:/usr/bin:/bin "$base"
"$root/buildah" commit -q --rm "$base" localhost/base
build() { # NAME DOCKERFILE CONTEXT
  "$root/buildah" bud -q --format docker --from localhost/base --tag "localhost/$1" --file "$2" \
    --volume "$certificates:$certificates:ro" --env "PIP_CERT=$certificates/ca-certificates.crt" --unsetenv PIP_CERT "$3"
}
top=$here/../..
build process-cosmos "$top/addon/Dockerfile" "$top/addon"
build process-cosmos-testbed "$top/testbed/Dockerfile" "$top"
