"""The types of receive.pyx."""

LIBFUSE_VERSION: int
