"""Choosing a variant for a device and running it: a verified path in, text out. No chain, no network.

`select.select` (a table of rules), `device.probe`, `run.generate`; what a model process may do is decided by
`citrate.core.confinement`.
"""
