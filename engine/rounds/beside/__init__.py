"""What servers do beside their exchanges: probes of clients' speed, and what they compute themselves."""
