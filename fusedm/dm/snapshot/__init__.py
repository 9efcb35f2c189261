"""What the targets over an origin with snapshots are made of."""
