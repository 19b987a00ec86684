"""Sockets, sk_buffs, queues, devices."""
