"""What is written as JSON, as records: whoever makes a document builds one, and every reader reads the same class."""
