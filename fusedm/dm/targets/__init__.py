"""The shelf: one target is NAME.py, NAME.md and its test; targets never import each other."""
