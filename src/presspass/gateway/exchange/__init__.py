"""The doors at which a workload's identity token becomes a pass, each in its clients' own protocol."""
