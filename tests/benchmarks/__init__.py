"""The benchmark suite: works measured beside what limits them, in the same run on the same machine.

``python -m tests.benchmarks`` from the repository's root. Only ratios say something: seconds
belong to a machine and its mood. Every work drives the real command; nothing is mocked.

    measure   seconds, memory and CPU of processes
    report    rows and the table
    inputs    the data, the same in every run
    arena     a place for all of it that is gone afterwards
    local_*   the works on the built-in local cluster
    login     the ssh program by itself
    ssh_*     the works on hosts behind sshd
    registry  the list of all works
"""
