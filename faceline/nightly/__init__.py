"""What an archive remembers from night to night: which content lies where, what came of it, and what that changed."""
