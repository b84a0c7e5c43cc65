"""The commands of the command line, a module each. It may import all of pipeline but `cli`."""
