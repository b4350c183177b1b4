"""How a catalogue gets its tables: Alembic revisions, run when a store is opened."""
