"""Brings up the whole system on a bare Debian machine: `python3 -m devstack run`.

`bootstrap` needs nothing but Python's standard library; everything else runs inside the virtual environment
that it makes. Tests use `Stack` and `postgres.throwaway`.
"""
