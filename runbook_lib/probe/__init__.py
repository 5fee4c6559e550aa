"""Probes: TLS handshakes that see what is really served."""
