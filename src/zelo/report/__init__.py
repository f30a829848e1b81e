"""What a workspace has to say to people: measured rows, the verdict in words, the page, the table on a terminal."""
