#!/usr/bin/env bash
# Puts a CPU-only libtorch where the build looks for it: ./libtorch.
#
#   .cargo/libtorch.sh
#
# ./libtorch becomes a link into a per-user cache, so a second clone has nothing
# to download. What is downloaded are the wheels of PyTorch, through your own
# pip and its settings, checked against the hashes below; of them only what a
# CPU build needs is kept. Nothing is installed, and nothing outside the cache
# and this folder is touched. A libtorch of your own wins: set LIBTORCH or
# LIBTORCH_USE_PYTORCH, and this script does nothing.
set -euo pipefail
export LC_ALL=C

version=2.13.0
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf 'libtorch: %s\n' "$*"; }
fail() {
    printf 'libtorch: %s\n' "$@" >&2
    exit 1
}

# need NAME COMMAND...: remembers NAME as missing when the command fails.
missing=()
need() {
    local name=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$name")
}
compiler_works() {
    # On macOS, c++ exists without the command line tools and only offers to install them.
    if [ "$(uname -s)" = Darwin ] && ! xcode-select -p; then return 1; fi
    # shellcheck disable=SC2086 # CXX may hold arguments
    set -- ${CXX:-c++}
    command -v "$1"
}
stop_if_missing() {
    [ ${#missing[@]} -eq 0 ] && return
    fail "cannot start, these are missing:" "${missing[@]/#/  - }" "Here is how to install them:" \
        "  Debian, Ubuntu: sudo apt-get install python3 python3-pip g++ make" \
        "  Fedora:         sudo dnf install python3 python3-pip gcc-c++ make" \
        "  macOS:          xcode-select --install" \
        "  cargo:          https://rustup.rs"
}

ready() { case $(cat "$1/build-version" 2>/dev/null) in "$version" | "$version+"*) return 0 ;; *) return 1 ;; esac }

need cargo command -v cargo
need "g++ (or another C++17 compiler, named by CXX)" compiler_works
need make command -v make

if [ -n "${LIBTORCH:-}" ] || [ -n "${LIBTORCH_USE_PYTORCH:-}" ]; then
    stop_if_missing
    say "using yours: LIBTORCH=${LIBTORCH:-} LIBTORCH_USE_PYTORCH=${LIBTORCH_USE_PYTORCH:-}"
    exit 0
fi
if ready "$repository/libtorch"; then
    stop_if_missing
    exit 0
fi

case $(uname -s)-$(uname -m) in
Linux-x86_64) platform=linux-x86_64 ;;
Linux-aarch64 | Linux-arm64) platform=linux-aarch64 ;;
Darwin-arm64) platform=macos-arm64 ;;
*)
    fail "there is no ready-made libtorch $version for $(uname -s) on $(uname -m)." \
        "  Build or fetch libtorch $version, and set LIBTORCH to its folder (the one that holds include and lib)."
    ;;
esac
case $platform in
macos-*) cache=$HOME/Library/Caches/tch-audit ;;
*) cache=${XDG_CACHE_HOME:-$HOME/.cache}/tch-audit ;;
esac
installed=$cache/libtorch-$version-$platform

if ! ready "$installed"; then
    need python3 python3 -c 'import sys, zipfile, hashlib; sys.exit(sys.version_info < (3, 7))'
    need "pip (python3 -m pip)" python3 -m pip --version
fi
stop_if_missing

if [ -e "$repository/libtorch" ] && [ ! -L "$repository/libtorch" ]; then
    fail "$repository/libtorch is in the way: it is not a link, and not libtorch $version." \
        "  Move it away, or set LIBTORCH to the libtorch that you want to use."
fi

if ! ready "$installed"; then
    mkdir -p "$cache" || fail "cannot create $cache; set XDG_CACHE_HOME to a folder that you can write to"
    trap 'exit 130' INT # Python answers Ctrl-C, tidies up and says so
    status=0
    python3 - "$cache" "$installed" "$platform" "$version" <<'PYTHON' || status=$?
import errno
import fcntl
import glob
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile

CACHE, INSTALLED, PLATFORM, VERSION = sys.argv[1:]

# Per platform: gigabytes to have free, the libraries to keep, and the wheels:
# what to ask pip for, its platform tag, its sha256. The wheels are those of
# CPython 3.11, whatever Python runs this, so that every machine gets one file.
# Those for Linux are built with CUDA; libtorch_cpu does without it except for
# two small libraries, and libtorch.so is replaced by a linker script that
# names libtorch_cpu alone.
PLATFORMS = {
    "linux-x86_64": (
        1.3,
        "libtorch_cpu.so libc10.so libgomp.so.1 libcupti.so.13 libcudart.so.13",
        [
            ("torch", VERSION, "manylinux_2_28_x86_64",
             "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7"),
            ("nvidia-cuda-runtime", "13.0.96", "manylinux2014_x86_64",
             "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
            ("nvidia-cuda-cupti", "13.0.85", "manylinux_2_25_x86_64",
             "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
        ],
    ),
    "linux-aarch64": (
        1.1,
        "libtorch_cpu.so libc10.so libgomp.so.1 libcupti.so.13 libcudart.so.13"
        " libarm_compute.so libarm_compute_graph.so libnvpl_blas_core.so.0 libnvpl_blas_lp64_gomp.so.0"
        " libnvpl_lapack_core.so.0 libnvpl_lapack_lp64_gomp.so.0",
        [
            ("torch", VERSION, "manylinux_2_28_aarch64",
             "092790c696a760c729fd5722835f50b9d81fd7c8f141571f3f3cf4081a8f664c"),
            ("nvidia-cuda-runtime", "13.0.96", "manylinux2014_aarch64",
             "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55"),
            ("nvidia-cuda-cupti", "13.0.85", "manylinux_2_25_aarch64",
             "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151"),
        ],
    ),
    "macos-arm64": (
        0.7,
        "libtorch.dylib libtorch_cpu.dylib libc10.dylib libomp.dylib",
        [
            ("torch", VERSION, "macosx_14_0_arm64",
             "e76f9bcecc52b8ff711239a2f7547d5353df95878ab232f0773c1d95928b92f8"),
        ],
    ),
}
FREE_GB, LIBRARIES, WHEELS = PLATFORMS[PLATFORM]


def say(text):
    print("libtorch: " + text, flush=True)


def lock():
    """Waits for another clone that is doing the same; the lock dies with the process."""
    held = open(os.path.join(CACHE, "lock"), "w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another build that is fetching it")
        fcntl.flock(held, fcntl.LOCK_EX)
    return held


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def download(name, version, tag, expected, folder):
    """The path of one wheel, whose hash is the expected one."""
    say("downloading %s %s" % (name, version))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--no-input", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11"]
    command += ["--abi", "cp311", "--platform", tag, "--dest", folder, "%s==%s" % (name, version)]
    if not sys.stderr.isatty():
        command.append("--quiet")
    # pip's own temporary files go to the cache too: /tmp is often small.
    pip = subprocess.run(command, env=dict(os.environ, TMPDIR=folder), stdin=subprocess.DEVNULL)
    wheels = glob.glob(os.path.join(folder, "*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        sys.exit("libtorch: pip could not download %s %s for %s: see above" % (name, version, tag))
    received = sha256(wheels[0])
    if received != expected:
        sys.exit("libtorch: %s is not the file that was expected, and was thrown away.\n"
                 "libtorch:   sha256 received %s\nlibtorch:   sha256 expected %s\n"
                 "libtorch:   Try again; if it stays so, your package index serves another file (see pip config list)."
                 % (os.path.basename(wheels[0]), received, expected))
    return wheels[0]


def unpack(wheel, target):
    """Headers and wanted libraries of one wheel; the names of the libraries found."""
    wanted, found = set(LIBRARIES.split()), []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = member.filename
            name = path.rsplit("/", 1)[-1]
            if path.startswith("torch/include/") and name:
                place = os.path.join(target, path[len("torch/"):])
            elif name in wanted:
                place = os.path.join(target, "lib", name)
                found.append(name)
            else:
                continue
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with archive.open(member) as source, open(place, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
    return found


def build(work):
    """A complete libtorch in a temporary folder, then in its place by one rename."""
    target = os.path.join(work, "libtorch")
    found = []
    for name, version, tag, expected in WHEELS:
        folder = os.path.join(work, name)
        os.makedirs(folder)
        wheel = download(name, version, tag, expected, folder)
        say("checked, unpacking")
        found += unpack(wheel, target)
        shutil.rmtree(folder)
    absent = set(LIBRARIES.split()) - set(found)
    if absent:
        sys.exit("libtorch: the wheels hold no %s; this script and its hashes disagree" % ", ".join(sorted(absent)))
    if PLATFORM.startswith("linux"):
        with open(os.path.join(target, "lib", "libtorch.so"), "w") as script:
            script.write("INPUT(libtorch_cpu.so)\n")
    with open(os.path.join(target, "build-version"), "w") as file:
        file.write(VERSION + "+cpu\n")
    shutil.rmtree(INSTALLED, ignore_errors=True)  # an incomplete one, made by someone's hand
    os.rename(target, INSTALLED)


def main():
    held = lock()
    for left in glob.glob(os.path.join(CACHE, "unfinished-*")):
        shutil.rmtree(left, ignore_errors=True)
    if os.path.exists(os.path.join(INSTALLED, "build-version")):
        return
    free = shutil.disk_usage(CACHE).free / 1e9
    if free < FREE_GB:
        sys.exit("libtorch: %s has %.1f GB free, and %.1f GB are needed for a moment (under 0.6 GB stay)\n"
                 "libtorch:   Make room, or set XDG_CACHE_HOME to a folder on a larger disk." % (CACHE, free, FREE_GB))
    say("fetching libtorch %s into %s: once per user, some 500 MB, a minute or two" % (VERSION, CACHE))
    work = tempfile.mkdtemp(prefix="unfinished-", dir=CACHE)
    try:
        build(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    held.close()


def stopped(number, _frame):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, stopped)
signal.signal(signal.SIGHUP, stopped)
try:
    main()
except KeyboardInterrupt:
    sys.exit("\nlibtorch: interrupted; nothing half-made is left, the next run starts again")
except OSError as error:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    sys.exit("libtorch: %s: %s" % ("the disk is full" if full else "cannot go on", error))
PYTHON
    trap - INT
    [ "$status" -eq 0 ] || exit "$status"
fi

ln -sfn "$installed" "$repository/libtorch"
say "ready: $installed"
