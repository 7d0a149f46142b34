"""`python -m sepvae`."""

from sepvae.cli import main

main()
