"""Who is connected: Engine.IO's door, Socket.IO connections, plain peers, and the socket handlers see of each."""
