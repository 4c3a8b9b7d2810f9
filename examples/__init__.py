"""Programs that show Winnow at work; each is run by a test or by make."""
