"""Commands and groups of commands, a file each, mounted by the command line."""
