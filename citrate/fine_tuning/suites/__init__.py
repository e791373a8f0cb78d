"""Adapter suites: several adapters of one base as one record, each with the prompts that show what it does and where.

::

    parts.py        prompts, marks, limits: what the file and the record have in common
    written.py      the YAML file
    record.py       the suite's record and that of a check, as they are stored and signed
    binding.py      from a file, or a record, to base and adapters on this machine, verified
    marks.py        whether an answer shows a mark
    checking.py     the measurement
"""

from citrate.fine_tuning.suites.binding import Bound, bind, locate
from citrate.fine_tuning.suites.checking import Checked, Miss, check
from citrate.fine_tuning.suites.keeping import keep_check, keep_suite, read_suite, show, signed
from citrate.fine_tuning.suites.record import Suite, SuiteCheck
from citrate.fine_tuning.suites.written import Written, load

__all__ = [
    "Bound",
    "Checked",
    "Miss",
    "Suite",
    "SuiteCheck",
    "Written",
    "bind",
    "check",
    "keep_check",
    "keep_suite",
    "load",
    "locate",
    "read_suite",
    "show",
    "signed",
]
