"""`python -m pilotlight.platform.cli`: the same as the console script, for children of our own."""

from pilotlight.platform.cli.main import main

main()
