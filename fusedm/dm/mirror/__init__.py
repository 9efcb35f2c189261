"""What a mirror is made of: its log of regions, and its legs. Pure."""
