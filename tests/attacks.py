"""Commands that destroy, stop or deceive whatever they reach: promise 19."""

from __future__ import annotations

#: run by bash, each after what reads the input
ATTACKS = [
    "rm -rf ../*", "rm -rf ../../*", "rm -rf ../out ../in ../request", "chmod 000 ..", "chmod 000 .", "kill -9 $PPID", "kill -9 $$", "kill -STOP $$",
    "kill -STOP $PPID; sleep 100", "kill -STOP $PPID; while :; do echo x >&2; sleep 0.01; done", "kill -STOP $PPID $$; sleep 100",
    "kill -STOP $BASHPID", "exec 3>&- 4>&- 5>&- 6>&-", "for fd in 3 4 5 6 7 8 9; do echo '1 0' >&$fd || true; done", "exec 0<&- 1>&- 2>&-",
    "trap '' TERM INT HUP", "set +e; exec 255>&-; exit 0", "printf '9 0\\n' > /proc/$PPID/fd/4 || true",
    "for fd in /proc/$$/fd/*; do echo '9 0' > $fd || true; done", ": > /proc/$$/fd/6", "rm -f /proc/$$/fd/6; printf x > /proc/$$/fd/6",
    'rmdir "$PWD"', 'mv "$PWD" ../away; mkdir "$PWD"', "ulimit -n 3", "ulimit -f 0", "alias cat=false; cat() { false; }; export -f cat",
    "enable -n echo; hash -p /bin/false cat", "shopt -s expand_aliases; alias cat=false", "cd /; exec bash -c 'kill -9 $$'",
    "setsid sleep 100 & sleep 100 & disown -a", "suspend -f", "export LC_ALL=de PATH=/nosuch", "_sshmap=(1 2 3); _sshmap_number=5; unset _sshmap",
    "readonly _sshmap _sshmap_number IFS", "exit 300", "mapfile -u 6 x; read -u 3 y", "umask 777",
]  # fmt: skip
