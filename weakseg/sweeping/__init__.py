"""Many runs of one experiment, each a job of its own: on this machine, or on a cluster."""
