"""`python -m featureline` is the command `featureline`."""

from featureline.cli import main

if __name__ == "__main__":
    main()
