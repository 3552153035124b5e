"""Frozen values: what the launcher talks about. Standard library only; no I/O, no clock."""
