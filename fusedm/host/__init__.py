"""The machine below: mount table, loop devices, signals, what is missing. All of it is open."""
