"""A store that is an export of an NBD server, and what it takes to reach one."""
