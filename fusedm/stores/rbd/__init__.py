"""Images of Ceph RBD as stores: an address, librbd behind ctypes, an open image, and the store."""
