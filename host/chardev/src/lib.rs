//! Character back-ends: terminal, file, socket.
