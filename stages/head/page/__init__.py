"""What the page of ``encore report --html`` shows, as plain data: tables, details of each mode, the map."""
