"""The layers that confine a worker: what they refuse (policy), and how each is laid on."""
