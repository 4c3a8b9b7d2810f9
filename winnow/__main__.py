"""The program `winnow`, and `python -m winnow`."""

from winnow.distribution import missing_extras_named


def main() -> None:
    """Run the command line, or say what it needs."""
    with missing_extras_named():
        from winnow.cli import app

        app(prog_name="winnow")


if __name__ == "__main__":
    main()
