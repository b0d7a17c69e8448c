"""Makes `python -m maskwright` the command line; `torchrun ... -m -- maskwright train ...` starts it on every rank."""

from maskwright.cli.main import main

if __name__ == "__main__":
    main()
