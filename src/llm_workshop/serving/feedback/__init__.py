"""What people thought of answers: kept in SQLite, handed on as preference data for alignment (week 9)."""
