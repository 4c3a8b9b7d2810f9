"""What the three services share: server, batching, wire format, errors, settings, logs. No model code, no torch."""
