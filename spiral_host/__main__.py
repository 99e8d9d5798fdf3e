"""Run the command line as `python -m spiral_host`."""

from spiral_host.cli import main

if __name__ == "__main__":
    main()
