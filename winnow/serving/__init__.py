"""What the three services share: server, wire format, settings, logs. No model code, no torch."""
