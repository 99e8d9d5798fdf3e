"""Run the workers of one machine: mechanism without opinion, on the daemon's word."""
