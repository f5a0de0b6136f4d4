"""`workshop chat`: a conversation with the served model in the terminal."""
