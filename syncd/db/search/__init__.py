"""Search indexes of archives as tables of a PostgreSQL database: the index of a cluster."""
