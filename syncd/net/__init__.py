"""Sockets, TLS and receive buffers: the way to a server."""
