#!/usr/bin/env bash
# Builds scripts/opp.Dockerfile with buildah, which needs no daemon: scripts/test_dockerfile.sh
# CANN's image is not fetched. In its place is a Debian with the compilers that the image has, and in
# place of CANN the headers and the version of ASCEND_HOME_PATH, by default those of the tests.
# Needs root, buildah, debootstrap, 3 GB in TMPDIR, and Debian's packages; MIRROR names where these are.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 0 "$@"
cd "$(dirname "$0")/.."
for program in buildah debootstrap; do
  command -v "$program" >/dev/null || wrong "$program is missing: apt-get install $program"
done
work=$(mktemp -d "${TMPDIR:-/tmp}/bn3d-dockerfile.XXXXXX")
trap 'rm -rf "$work"' EXIT
buildah() { command buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }

tag=$(sed -n 's/^ARG CANN=//p' scripts/opp.Dockerfile)
home=/usr/local/Ascend/cann-${tag%%-*}
mkdir -p "$work/cann/compiler"
if [[ -n ${ASCEND_HOME_PATH-} ]]; then
  cp -rL "$ASCEND_HOME_PATH/include" "$work/cann/include"
  cp "$ASCEND_HOME_PATH/compiler/version.info" "$work/cann/compiler/"
else
  cp -r tests/opp/fake_cann/include "$work/cann/include"
  printf 'Version=7.7.0.1.238\nrequired_opp_abi_version=">=6.3, <=7.7"\n' >"$work/cann/compiler/version.info"
fi
debootstrap --variant=minbase --include=cmake,g++,make,python3 bookworm "$work/debian" ${MIRROR:+"$MIRROR"}
tar -C "$work/debian" -cf "$work/debian.tar" .
rm -rf "$work/debian"
container=$(buildah from scratch)
buildah add -q "$container" "$work/debian.tar" / >/dev/null
buildah copy -q "$container" "$work/cann" "$home" >/dev/null
buildah config --env "ASCEND_HOME_PATH=$home" "$container"
buildah commit -q "$container" "docker.io/ascend/cann:$tag" >/dev/null
buildah bud --isolation chroot --pull-never -f scripts/opp.Dockerfile --output "$work/dist" .
ls "$work"/dist/*.run
