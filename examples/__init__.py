"""Example programs. Each is run by a test or by make."""
