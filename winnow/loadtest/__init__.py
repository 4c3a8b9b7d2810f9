"""A load tool for gateways: `load` describes what to send, `client` sends it, `measured` is what came of it."""
