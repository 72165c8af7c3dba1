"""What goes out: the JSON of the command line and of REST, one definition for both."""
