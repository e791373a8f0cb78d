"""Child processes that read what may be hostile, with walls around them.

::

    sandbox.py      what a child may take and reach: called inside the child, before it opens anything
    landlock.py     Linux: the folders that it may read
    seccomp.py      Linux: no sockets, no programs, no writing
    child.py        the parent's side of a child that answers one request
    serving.py      the child's side
    endings.py      what an exit code and the last words of a child mean
    searching.py    regular expressions of strangers, searched for in such a child
    tokenizing_process.py    tokenizers of strangers: the child of citrate.formats.checks.tokens
    processor_time.py    a limit on what a stranger's program may compute
"""
