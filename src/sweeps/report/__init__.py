"""What is made of many runs: the table that compares them, the pictures, and the page."""
