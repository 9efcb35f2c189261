"""The shelf of grammars: each file holds GRAMMARS, those of a family of targets."""
