"""Sets up a host: reads what to do from stdin, unpacks the shipped code, writes the launcher.

Sent as text to the host's Python before anything of sshmap is there, so it uses the
standard library only, and `sshmap.store.ownership`, whose text is sent before its own. Every path it needs
comes with the request. It answers in lines of JSON after a random marker. It changes nothing outside the root, and
nothing below a root that other users could alter.
"""

from __future__ import annotations

import compileall
import io
import json
import os
import platform
import secrets
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from typing import Any

from sshmap.store.ownership import flaw


def main() -> None:
    """Answer one client."""
    source = sys.stdin.buffer
    request = json.loads(source.readline())
    root = os.path.abspath(os.path.expanduser(request["root"]))
    runtime = os.path.join(root, "runtime", request["runtime"])
    _say(request["marker"], {**_facts(root), "have": os.path.isdir(runtime)})
    size = int(source.readline())
    try:
        if size >= 0:
            os.umask(0o077)
            _make_root(root)
            _unpack(source.read(size), root, runtime)
            _write_launcher(root, runtime)
            _make_key(root)
            _drop_others(root, request["runtime"])
        _say(request["marker"], {"root": root})
    except UnsafeError as exc:
        _say(request["marker"], {"unsafe": str(exc)})
    except OSError as exc:
        _say(request["marker"], {"error": f"{exc.strerror}: {exc.filename or root}"})


class UnsafeError(Exception):
    """Others could alter the root."""


def _make_root(root: str) -> None:
    """Make the root, and refuse it if others could alter it; judged afterwards, as another user may make it first."""
    if not flaw(root):
        os.makedirs(root, mode=0o700, exist_ok=True)
    if reason := flaw(root):
        raise UnsafeError(reason)


def _say(marker: str, answer: dict[str, Any]) -> None:
    sys.stdout.write(f"{marker} {json.dumps(answer)}\n")
    sys.stdout.flush()


def _facts(root: str) -> dict[str, Any]:
    place = root
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    return {
        "root": root,
        "there": os.path.isdir(root),
        "flaw": flaw(root),
        "python": sys.executable,
        "version": list(sys.version_info[:2]),
        "machine": platform.machine(),
        "libc": platform.libc_ver()[0],
        "bash": shutil.which("bash") or "",
        "bash_version": _bash_version(),
        "keygen": shutil.which("ssh-keygen") or "",
        "ssh": shutil.which("ssh") or "",
        "writable": os.access(place, os.W_OK | os.X_OK),
        "executable": not disk.f_flag & os.ST_NOEXEC,
        "free": disk.f_bavail * disk.f_frsize,
        "cores": os.cpu_count() or 1,
        "clock": time.time(),
        "home": os.path.expanduser("~"),
    }


def _bash_version() -> list[int]:
    """Return major and minor version of bash; zeros if there is none."""
    if not shutil.which("bash"):
        return [0, 0]
    words = ["bash", "--norc", "--noprofile", "-c", "echo ${BASH_VERSINFO[0]} ${BASH_VERSINFO[1]}"]
    said = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False).stdout.split()
    return [int(word) for word in said] if len(said) == 2 and b"".join(said).isdigit() else [0, 0]


def _unpack(archive: bytes, root: str, runtime: str) -> None:
    """Unpack into another directory and rename that, so that half a runtime is never used."""
    os.makedirs(os.path.join(root, "runtime"), mode=0o700, exist_ok=True)
    if not archive or os.path.isdir(runtime):
        return
    fresh = f"{runtime}.{secrets.token_hex(4)}"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        # the client has made it for this request; it holds plain files only
        tar.extractall(fresh)  # noqa: S202
    compileall.compile_dir(fresh, quiet=2)
    try:
        os.rename(fresh, runtime)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not os.path.isdir(runtime):
            raise


def _write_launcher(root: str, runtime: str) -> None:
    entry = os.path.join(runtime, "sshmap", "agent", "__main__.py")
    words = [sys.executable, "-I", entry]
    # 127 is the exit code of a shell for a missing program: it tells `up` to ship the code
    gone = f"[ -e {shlex.quote(entry)} ] || {{ echo {shlex.quote(entry)}: not found >&2; exit 127; }}"
    text = f'#!/bin/sh\n{gone}\nexec {shlex.join(words)} "$1" --root {shlex.quote(root)}\n'
    fresh = os.path.join(root, f".agent.{secrets.token_hex(4)}")
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(fresh, 0o700)
    os.rename(fresh, os.path.join(root, "agent"))


def _make_key(root: str) -> None:
    """Make this host's own key for its peers, once."""
    folder = os.path.join(root, "ssh")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    key = os.path.join(folder, "key")
    if not os.path.exists(key):
        fresh = f"{key}.{secrets.token_hex(4)}"
        comment = f"sshmap:{secrets.token_hex(6)}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", fresh], check=True)
        os.rename(f"{fresh}.pub", f"{key}.pub")
        os.rename(fresh, key)


def _drop_others(root: str, keep: str) -> None:
    """Delete former runtimes; a process that still runs from one has imported all of it but what `doctor` uses."""
    folder = os.path.join(root, "runtime")
    for name in os.listdir(folder):
        if name != keep and not name.startswith(keep):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


if __name__ == "__main__":
    main()
