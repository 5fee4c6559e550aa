"""The server's side of a run: the connection, the root shell, what is read over it, and the guard."""
