"""The systems that Winnow is compared with: the limits of the platform and a naive implementation."""
