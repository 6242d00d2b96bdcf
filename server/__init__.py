"""`dragoman serve`: captions for other programs and their viewers, over HTTP and WebSockets."""
