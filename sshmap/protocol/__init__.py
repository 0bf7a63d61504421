r"""The protocol between a client and an agent, on one page.

It runs over any pair of byte streams (a Unix socket, the pipes of a child, an ssh
channel) and carries one request at a time; a session serves requests one after another.
A session is served by the warm agent in the daemon (one that ssh began is passed on to it by
`sshmap.agent.host.handoff`); where that does not answer, by an agent process of its own.

**Marker.** The client sends ``sshmap <32 hex digits>\\n`` with random digits. The agent
sends the same line back before anything else. What stands before it (banners, prints of
shell start-up files) is skipped, at most 64 KiB, and quoted if the line never comes.

**Frame.** Four bytes length, big endian; one byte kind; that many bytes. Kind 0 is a
message: MessagePack of one class of `messages`, tagged by ``t``. Kind 1 is data: content
of the key or file being sent. Lengths are checked before anything is allocated: 16 MiB
for messages, 1 MiB for data; empty frames are refused. Unknown fields are ignored, unknown messages refused.

**Stream.** Content follows the message that announces it: data frames, then ``End`` with
length and xxh3-128 digest. Only a matching ``End`` makes content count. Between hosts on one
machine, which talk over a Unix socket, ``Handed`` with an open file (SCM_RIGHTS) may stand for
all of it: the receiver links the file if nobody can write to it any more, and digests it unless
its seal is fresh (`sshmap.store.files`).

**Version.** Hello says the lowest and the highest version that the client speaks, Welcome the highest that both do,
which is spoken from then on.

**Conversations** (client → agent, agent → client)::

    Hello{version, lowest, host, ring, …}      Welcome{version, host, owed} | Problem
    Ls{prefix, recursive, known, after}        Listing{entries, prefixes}* Listed{generation, unchanged}
    ListBuckets{}                              Buckets{rows}* Served{count}
    Put{name, receipt, members, replace}, data*, End{size, digest} | Handed{size, digest}; … ; Sync{}
                                               Stored{results}* Synced{}
    Get{prefix, exact, after, names, …}        Item{name, size}, data*, End{size, digest} | Unsent{problem};
                                               Passed{name}; … ; Served{count}
    Remove{prefix, exact, counting, names}     Removed{count, size, copied, copied_size}
    Has{name}                                  Served{count}
    RunOver{run, done, failed, cancelled}      Served{count}
    Verify{prefix, after, rate, quarantine}, PutAside{}*
                                               (Damages{rows}; Verified{name, keys, size, reading, aside})* Served{count}
    Ship{file, packages}                       Wanted{wanted}; if so: data*, End{size, digest} → Synced{}
    NeedPackages{requirements}                 Wanted{wanted}
    Open{job, run, agreed}                     Opened{run, epoch, number, highest}
    CountOutputs{outdir}                       OutputCounts{rows}* Served{count}
    Plan{job, run, epoch, sample}, OutputCounts{rows}*, Counted{}
                                               Planned{job, inputs, fresh, kept, problems, refused, gaps, orphans}
    Explain{job}, OutputCounts{rows}*, Counted{}
                                               Reasons{rows}* Explained{free, seconds}
    Start{job, run, epoch, number, origin, limits, …}, OutputCounts{rows}*, Counted{}
                                               Progress{queued, running, sending, done, failed, …}*
                                               StaleOutputs{directories}* RunEnded{done, failed, size, kept, …} | Problem
    Follow{run}                                as Start
    CancelRun{run, force, unreached, wait}     CancelNoted{left}
    Jobs{}                                     JobList{jobs}
    GetJob{run, job}                           JobIs{job, limits}
    ListAttempts{run, failed, key, …}          AttemptList{rows}* Served{count}
    Look{}                                     Seen{queued, sending, size, load, cores, free, tasks}
    Forget{age}                                Forgotten{runs, attempts, files, size}
    Sweep{directories, orphaned}; …            Removed{count, size}; …
    Prune{job, swept}                          StaleOutputs{directories}* Removed{count, size}
    Eval{name, command}                        data* (stdout), Said{text}*, Exited{code}
    Exec{command}                              as Eval
    Shell{name, command, run, failed, rows, …}, data*, Resize{rows, columns}*
                                               as Eval
    Relay{peer}                                RelayItem{id, name, receipt, members, replace}, data*, End{size, digest}; …
                                               Served{count}
    Delivered{peer, ids, refused}              Served{count}
    GetStatus{}                                Status{host, keys, size, …}
    Diagnose{}                                 Diagnosis{unreached, findings}
    CountLineage{hosts}                        LineageCounts{keys}
    StartDaemon{}                              Status{host, keys, size, …}
    SetPeers{peers, known_hosts, authorized}   PeersSet{}
    StopDaemon{purge}                          DaemonStopped{was_running, there}
    Hold{name, who}                            Served{count}
    Ping{}                                     Served{count}

No message grows with the data: what may be long is sent as several messages. `sshmap.agent.shuffle` draws the order
of a job's requests, and says what happens when a session breaks between them.

With ``quarantine``, the client answers each ``Damages`` by ``PutAside``, and only then these keys are put aside, of which the
``Verified`` that follows tells: wherever a conversation breaks, the client knows of all that was put aside, and goes on behind
the last ``Verified``.

The agent sends ``Tick{}`` whenever it was silent for 3 seconds, so silence of 12 seconds
means that it is lost. A request that fails as a whole is answered by
``Problem{kind, message, hint, key}``. Where
only files for peers that do not answer are left of a job, ``RunEnded`` names the peers; a
client that carries such files sends ``Start`` again, which goes on following the run.
``Welcome`` names runs that were cancelled while some hosts could not be reached; a client that meets one of these hosts
sends it ``CancelRun`` before anything else, and then tells the host that remembered.
A client whose ``Hello`` says ``ending`` sends ``StopDaemon`` and nothing else; it is served even where
parts of the root are missing or damaged, so that such a root can be deleted.
A peer's courier speaks the same protocol and is served ``Hello Has Put Sync RunOver Ping`` only.

`framing` does the frames, `handshake` the marker; `base`, `keys`, `jobs`, `runs` and `hosts` define the message classes, which
`messages` holds under one name.
"""
