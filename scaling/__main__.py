"""`python -m scaling`: the command line where a program wants a module, as torchrun does."""

from scaling.cli import main

if __name__ == "__main__":
    main()
