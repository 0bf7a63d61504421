"""Asks every host at once and puts the answers together; the Python API.

`cluster` is the front. `conversations` leases sessions with the hosts, `retrying` begins again what broke,
`gathering` does something for all hosts at once; `errands` are cancels that some hosts have not been told of; `results` is
what the calls return, `job_results` what those about jobs do.

- Keys: `keys`, the part of the front that is about them. `sources` (what is copied in), `lanes` and `upload`; `download`
  (trees) and `fetching` (one key), by `receiving` contents into a `destination`; `syncing` (trees both ways) and
  `choosing` (what of a tree takes part); `listing`; `reading` (contents to a stream); `removal`;
  `verifying` (all hosts read their keys).
- Commands: `jobs`, with `described` (a job as it is asked for), `attachments` (the files shipped with one), `functions` (a Python
  function as such files) with `reaching` (what a function looks up) and the `packages` that it imports, `job_answers` (what hosts answer about one),
  `relay` (fan-out files that go through the client) and `sweeping` (outputs that it leaves behind); `following` a run on
  all hosts; `runs`, the part of the front that is about runs submitted before, `summaries` of them; `report`, a page about some of them
  (`report_page`, `report.html`), of `figures` that are added up from their attempts, and their `rates` over time; `commands`, those
  run ad hoc, and `terminal`, bash on a host.
- `holding` a name on all hosts.
- Hosts: `setup` (`up` and `down`), with `bootstrap` (one host over ssh) and `runtime` (the code that is shipped);
  `wheels` of others for their platforms;
  `doctor`; `trust`.
"""
