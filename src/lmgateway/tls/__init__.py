"""TLS towards clients: a certificate authority of the gateway's own, certificates, contexts, listeners."""
