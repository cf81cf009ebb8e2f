"""A mutation fuzzer over everything that reads files: ``python -m fuzz --help`` in tests/, or ``make fuzz``.

Each case takes a valid input of a target, changes it a little, loads it in a child process with limits of
memory and time, and compares what was loaded with an independent, plain parse of the same bytes. Seed and number
say which case it is.
"""
