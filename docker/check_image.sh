#!/usr/bin/env bash
# Builds the image of docker/Dockerfile and proves it: started as docker-compose.yml starts it (a user without rights, a
# read-only root file system, no capabilities) and without any network, it becomes healthy, continues a clip, and ends
# with status 0 on SIGTERM.
#
#   docker/check_image.sh                  a host without a GPU, from base images made here out of Debian's packages
#   docker/check_image.sh --pull           from the base images that docker/Dockerfile names
#   docker/check_image.sh --store FOLDER   keep base images and layers in FOLDER, for the next time
#   docker/check_image.sh --lock ray       the image for a KubeRay cluster
#   docker/check_image.sh -- OPTION...     with further options for `podman build`
#
# Needs podman 4 with crun or runc and, without --pull, mmdebstrap on a Debian host, whose mirrors it uses; it installs
# nothing.
# Takes about 17 GB of disk while it runs, in $TMPDIR or /var/tmp. Packages come from where pip and npm of this host
# get them: /etc/pip.conf and the certificates of /etc/ssl/certs are seen by the build, but are not part of the image.
set -euo pipefail

base=localhost/audiolm-base compiler=localhost/audiolm-compiler image=localhost/audiolm:checked
name=audiolm-check
lock=service
pull=no
store=

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

while (($#)); do
    case $1 in
        -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --pull) pull=yes ;;
        --store) store=${2:?--store needs a folder}; shift ;;
        --lock) lock=${2:?--lock needs service or ray}; shift ;;
        --) shift; break ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
cd "$(dirname "$0")/.."
[ -f ".requirements/$lock.lock" ] || die "there is no .requirements/$lock.lock"
command -v podman >/dev/null || die "podman is not installed (on Debian: apt-get install podman)"
[ $pull = yes ] || command -v mmdebstrap >/dev/null ||
    die "mmdebstrap is not installed (on Debian: apt-get install mmdebstrap); --pull needs a registry instead"

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/audiolm-image.XXXXXX")
folder=$scratch
if [ -n "$store" ]; then
    mkdir -p "$store"
    folder=$(realpath "$store")
fi
engine=(podman --root "$folder/store" --runroot "$folder/run" --tmpdir "$folder/tmp" --cgroup-manager cgroupfs)
# No more than this host lets a process set for another: the engine's own limits may be higher.
files=$(ulimit -Hn)
limits=(--ulimit "nofile=$files:$files" --ulimit nproc=4096:4096)

clean() {
    "${engine[@]}" rm --force --volumes --time 0 "$name" >/dev/null 2>&1 || true
    [ -n "$store" ] || "${engine[@]}" rmi --all --force >/dev/null 2>&1 || true
    podman unshare rm -rf "$scratch" 2>/dev/null || rm -rf "$scratch"
}
trap clean EXIT

debian() { # NAME PACKAGE...: a small Debian of this host's release, from this host's mirrors
    local target=$1 packages release
    shift
    packages=$(IFS=, && echo "$*")
    release=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
    "${engine[@]}" image exists "$target" && return
    say "making $target: $packages"
    # shellcheck disable=SC2016
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        grep " $release" >"$scratch/sources.list" || die "apt knows no packages of Debian $release: run apt-get update"
    mmdebstrap --quiet --variant=minbase --include="$packages" "$release" "$scratch/base.tar" "$scratch/sources.list"
    "${engine[@]}" import --quiet "$scratch/base.tar" "$target" >/dev/null
    rm "$scratch/base.tar"
}

runs() { # can this runtime start containers on this host?
    "${engine[@]}" --runtime "$1" run --rm "${limits[@]}" --network none "$base" true 2>"$scratch/why"
}

options=(--format docker --network host "${limits[@]}" --build-arg DEVICE=cpu --build-arg "LOCK=$lock")
for path in /etc/pip.conf /etc/ssl/certs; do
    [ ! -e $path ] || options+=(--volume "$path:$path:ro")
done
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then # npm would otherwise know only the authorities it carries
    echo "cafile=/etc/ssl/certs/ca-certificates.crt" >"$scratch/npmrc"
    options+=(--volume "$scratch/npmrc:/root/.npmrc:ro")
fi
if [ $pull = yes ]; then
    base=$(sed -n 's/^ARG PYTHON_IMAGE=//p' docker/Dockerfile)
    "${engine[@]}" pull --quiet "$base" >/dev/null
else
    debian "$base" python3 python3-venv python-is-python3 ca-certificates
    debian "$compiler" python3 gcc libc6-dev
    options+=(--build-arg "PYTHON_IMAGE=$base" --build-arg "COMPILER_IMAGE=$compiler")
fi

runtime=
for candidate in crun runc; do
    if command -v $candidate >/dev/null && runs $candidate; then
        runtime=$candidate
        engine+=(--runtime "$candidate")
        break
    fi
done
[ -n "$runtime" ] || options+=(--isolation chroot)

say "building with ${runtime:-chroot}"
"${engine[@]}" build "${options[@]}" "$@" --file docker/Dockerfile --tag "$image" .
[ -n "$runtime" ] || die "the image is built, but this host starts no container with crun or runc: $(cat "$scratch/why")"

say "starting"
clips=$PWD/service/static/clips
"${engine[@]}" run --detach --name "$name" "${limits[@]}" --network none --read-only --read-only-tmpfs=false \
    --tmpfs /tmp --cap-drop all --security-opt no-new-privileges --volume "$clips:/clips:ro" "$image" >/dev/null
inside() { "${engine[@]}" exec "$name" "$@"; }
failed() { "${engine[@]}" logs --tail 40 "$name" >&2; die "$@"; }

for ((second = 0; ; second += 2)); do
    if "${engine[@]}" healthcheck run "$name" >/dev/null 2>&1; then break; fi
    [ "$("${engine[@]}" inspect --format '{{.State.Running}}' "$name")" = true ] || failed "it ended while it started"
    [ "$second" -lt 300 ] || failed "it is not healthy after $second seconds"
    sleep 2
done
[ "$(inside id -u)" = 10001 ] || failed "it does not run as user 10001"
! inside touch /opt/audiolm/written 2>/dev/null || failed "its root file system can be written to"
! inside sh -c 'command -v cc gcc clang' || failed "it has a compiler"
say "healthy; kernels: $(inside python -m model.native.library)" || failed "the kernels were not compiled"

say "a continuation"
inside audiolm continue /clips/speech-harbor.flac --seconds 2 --url http://127.0.0.1:8000 --output /tmp/longer.wav ||
    failed "it answers no request"
inside python -c '
import soundfile
clip, longer = soundfile.info("/clips/speech-harbor.flac"), soundfile.info("/tmp/longer.wav")
assert abs(longer.duration - clip.duration - 2) < 0.01, (clip.duration, longer.duration)
' || failed "the answer is not two seconds longer than the clip"

say "SIGTERM"
"${engine[@]}" kill --signal TERM "$name" >/dev/null
status=$("${engine[@]}" wait "$name")
[ "$status" = 0 ] || failed "it ended with status $status"
say "good: $("${engine[@]}" image inspect --format '{{.Size}}' "$image") bytes"
