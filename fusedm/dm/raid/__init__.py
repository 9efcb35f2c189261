"""What the target `raid` is made of."""
