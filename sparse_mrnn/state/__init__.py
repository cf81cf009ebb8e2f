"""What a network is and what state it is in: its description, its digest, and the files that hold both."""
