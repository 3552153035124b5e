"""Pure decisions of (facts, policy, memory, now). No clock, no I/O, no logging, no Kubernetes."""
