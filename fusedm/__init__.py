"""A userspace block-device stack with inline encryption and device mapper, mounted with FUSE."""

__version__ = "0.1.0"
