"""`python -m nescio`: the command line."""

from nescio.cli.main import main

if __name__ == "__main__":
    main()
