"""HTML report that compares models side by side: tables, plots and pictures; `writing.write_report` makes it."""
