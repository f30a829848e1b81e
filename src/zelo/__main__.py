"""`python -m zelo`."""

from zelo.cli import main

if __name__ == "__main__":
    main()
