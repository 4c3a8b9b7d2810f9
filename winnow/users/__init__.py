"""Users' histories, kept by the gateway: events, and the stores that hold them."""
