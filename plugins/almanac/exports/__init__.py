"""What is kept, told in the words of other tools."""
