"""What tests share, and no test: databases, servers, data, and readers of results."""
