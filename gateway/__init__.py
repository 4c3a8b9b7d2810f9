"""The gateway: chains the two stages for back-end services. Never imports torch."""
