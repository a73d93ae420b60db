"""Chat models over HTTP: two dialects, one contract."""
