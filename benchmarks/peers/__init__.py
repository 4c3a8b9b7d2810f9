"""What Winnow is compared with: the limits of the platform, and what one would write first."""
